#include <ATen/ATen.h>
#include <transformers/utils/modeling/losses.h>

#include "support/tensor_assertions.h"

namespace transformers::testing {
namespace {

at::Tensor ids(std::initializer_list<int64_t> values) { return at::tensor(std::vector<int64_t>(values)); }

/// −log softmax of the label's logit, by hand.
double cross_entropy(const at::Tensor& logits, int64_t label) {
  return (logits.to(at::kDouble).logsumexp(0) - logits[label].to(at::kDouble)).item<double>();
}

TEST(LossesTest, LabelsAreShiftedByOneAndMinus100IsLeftOut) {
  const auto logits = at::randn({1, 4, 5});
  const auto labels = ids({4, 2, -100, 3}).unsqueeze(0);
  const auto sum = cross_entropy(logits[0][0], 2) + cross_entropy(logits[0][2], 3);
  const auto loss = causal_lm_loss(logits, {.labels = labels});
  EXPECT_NEAR(loss.item<double>(), sum / 2, 1e-6);
  const auto shifted = ids({2, -100, 3, -100}).unsqueeze(0);
  EXPECT_TENSORS_EQUAL(causal_lm_loss(logits, {.shift_labels = shifted}), loss);
  EXPECT_NEAR(causal_lm_loss(logits, {.labels = labels, .num_items_in_batch = 8}).item<double>(), sum / 8, 1e-6);
}

TEST(LossesTest, IgnoringEveryLabelIsNanUnlessItemsAreCounted) {
  const auto logits = at::randn({1, 3, 5});
  const auto labels = at::full({1, 3}, -100, at::kLong);
  EXPECT_TRUE(std::isnan(causal_lm_loss(logits, {.labels = labels}).item<double>()));
  EXPECT_EQ(causal_lm_loss(logits, {.labels = labels, .num_items_in_batch = 4}).item<double>(), 0);
}

TEST(LossesTest, HalfLogitsGiveALossInFp32) {
  const auto logits = at::randn({1, 3, 5}).to(at::kBFloat16);
  const auto loss = causal_lm_loss(logits, {.labels = ids({0, 1, 2}).unsqueeze(0)});
  EXPECT_EQ(loss.scalar_type(), at::kFloat);
}

TEST(LossesTest, RefusesLabelsThatDoNotFitTheLogits) {
  EXPECT_ERROR(causal_lm_loss(at::randn({1, 3, 5}), {.labels = at::zeros({1, 4}, at::kLong)}), "labels", "3", "4");
  EXPECT_ERROR(causal_lm_loss(at::randn({1, 3, 5}), {.labels = at::full({1, 3}, 5, at::kLong)}), "5");
}

TEST(LossesTest, PoolingTakesTheRightmostTokenThatIsNoPadding) {
  // The right-most real token, wherever padding stands; 0 where there is nothing else.
  const auto rows = ids({5, 6, 7, 8, 5, 6, 0, 0, 0, 0, 5, 6, 0, 0, 0, 0, 5, 0, 6, 7}).view({5, 4});
  EXPECT_TENSORS_EQUAL(last_non_pad_token(rows, 0), ids({3, 1, 3, 0, 3}));
}

TEST(LossesTest, TheProblemFollowsFromLabels) {
  EXPECT_EQ(infer_problem_type(1, at::kLong), ProblemType::kRegression);
  EXPECT_EQ(infer_problem_type(3, at::kLong), ProblemType::kSingleLabelClassification);
  EXPECT_EQ(infer_problem_type(3, at::kFloat), ProblemType::kMultiLabelClassification);
}

TEST(LossesTest, PositionsOfAnswersAreClampedAndTheEndIgnored) {
  const auto start = at::randn({2, 4}), end = at::randn({2, 4});
  const auto loss = question_answering_loss(start, end, ids({1, 9}).unsqueeze(1), ids({-3, 2}));
  const auto ends = (cross_entropy(end[0], 0) + cross_entropy(end[1], 2)) / 2;
  EXPECT_NEAR(loss.item<double>(), (cross_entropy(start[0], 1) + ends) / 2, 1e-6);
}

}  // namespace
}  // namespace transformers::testing
