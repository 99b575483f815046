#include <torch/torch.h>
#include <transformers/utils/pruning/pruners.h>

#include "support/tensor_assertions.h"
#include "utils/pruning/layers.h"
#include "utils/pruning/tensors.h"

namespace transformers {
namespace {

using testing::bools;
using testing::LSTMLinear;
using testing::sequential_of;

/// Rows filled with the given values.
void fill_rows(const at::Tensor& weight, const at::Tensor& values) {
  const at::NoGradGuard no_grad;
  std::vector<int64_t> shape(static_cast<size_t>(weight.dim()), 1);
  shape[0] = -1;
  weight.copy_(values.reshape(shape).expand_as(weight));
}

TEST(SaliencyPrunerTest, KeepsTheRowsOfLargestNorm) {
  auto model = sequential_of({{"linear", 4, 4, true}});
  fill_rows(model->ptr<torch::nn::LinearImpl>(0)->weight, at::tensor({1.F, -2.F, 3.F, -4.F}));
  SaliencyPruner pruner({.sparsity_level = 0.5});
  pruner.prepare(model.ptr());
  pruner.step();
  EXPECT_TENSORS_EQUAL(pruner.mask("0.weight"), bools({0, 0, 1, 1}));
  pruner.step();
  EXPECT_TENSORS_EQUAL(pruner.mask("0.weight"), bools({0, 0, 1, 1}));
}

TEST(SaliencyPrunerTest, CutsTheNumberOfRowsDownward) {
  auto model = sequential_of({{"linear", 2, 5, false}});
  fill_rows(model->ptr<torch::nn::LinearImpl>(0)->weight, at::arange(1, 6).to(at::kFloat));
  SaliencyPruner pruner({.sparsity_level = 0.5});
  pruner.prepare(model.ptr());
  pruner.step();
  EXPECT_TENSORS_EQUAL(pruner.mask("0.weight"), bools({0, 0, 1, 1, 1}));
}

TEST(LSTMSaliencyPrunerTest, PrunesEachGateByItself) {
  LSTMLinear model(2, 4, 3, 1, false);
  const auto weight = model->lstm->named_parameters()["weight_hh_l0"];
  fill_rows(weight,
            at::tensor({1.F, 2.F, 3.F, 4.F, 80.F, 70.F, 60.F, 50.F, 0.1F, 0.4F, 0.2F, 0.3F, 9.F, 9.5F, 1.F, 0.F}));
  LSTMSaliencyPruner pruner({.sparsity_level = 0.5});
  pruner.prepare(model.ptr(), {{.tensor_fqn = "lstm.weight_hh_l0"}});
  pruner.step();
  EXPECT_TENSORS_EQUAL(pruner.mask("lstm.weight_hh_l0"), bools({0, 0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 1, 1, 1, 0, 0}));
}

// The example of the reference's own test: filters of 3, 2 and 0.1 in all nine places.
TEST(FPGMPrunerTest, PrunesTheFilterNearestToAllOthers) {
  auto model = sequential_of({{"conv2d", 1, 3, 3, 1, false}});
  const auto weight = model->ptr<torch::nn::Conv2dImpl>(0)->weight;
  fill_rows(weight, at::tensor({3.F, 2.F, 0.1F}));
  FPGMPruner pruner({.sparsity_level = 0.3});
  EXPECT_TENSORS_CLOSE(pruner.distances(weight.detach()), at::tensor({11.7F, 8.7F, 14.4F}));
  EXPECT_TENSORS_CLOSE(FPGMPruner({}, 1).distances(weight.detach()), 3 * at::tensor({11.7F, 8.7F, 14.4F}));
  pruner.prepare(model.ptr());
  pruner.step();
  EXPECT_TENSORS_EQUAL(pruner.mask("0.weight"), bools({1, 0, 1}));
}

TEST(FPGMPrunerTest, TakesADistanceOfOnesOwn) {
  auto model = sequential_of({{"linear", 1, 3, false}});
  fill_rows(model->ptr<torch::nn::LinearImpl>(0)->weight, at::tensor({3.F, 2.F, 0.1F}));
  // Only the last row is far from anything.
  FPGMPruner pruner({.sparsity_level = 0.67}, [](const at::Tensor& rows) {
    return at::eye(rows.size(0)) * at::tensor({0.F, 0.F, 1.F});
  });
  pruner.prepare(model.ptr());
  pruner.step();
  EXPECT_TENSORS_EQUAL(pruner.mask("0.weight"), bools({0, 0, 1}));
}

TEST(FPGMPrunerTest, ShowsAllRowsAtLevelZeroAndHidesAllAtOne) {
  auto model = sequential_of({{"linear", 2, 3, false}, {"linear", 3, 2, false}});
  const auto before = testing::copy_of_state(*model);
  FPGMPruner pruner;
  pruner.prepare(model.ptr(), {{.tensor_fqn = "0.weight", .sparsity_level = 0.0, .mask = bools({0, 1, 0})},
                               {.tensor_fqn = "1.weight", .sparsity_level = 1.0}});
  pruner.step();
  EXPECT_TENSORS_EQUAL(pruner.mask("0.weight"), bools({1, 1, 1}));
  EXPECT_TENSORS_EQUAL(model->ptr<torch::nn::LinearImpl>(0)->weight.detach(), before["0.weight"]);
  EXPECT_TENSORS_EQUAL(pruner.mask("1.weight"), bools({0, 0}));
  EXPECT_ERROR(pruner.prune(), "'1'", "hides all", "2");
}

TEST(PrunersTest, RefuseWhatTheyCannotRank) {
  EXPECT_ERROR(FPGMPruner({}, 3), "1 or 2", "3");
  EXPECT_ERROR(FPGMPruner({}, FPGMPruner::Distance()), "function");

  auto model = sequential_of({{"linear", 2, 3, true}});
  SaliencyPruner vector;
  vector.prepare(model.ptr(), {{.tensor_fqn = "0.bias"}});
  EXPECT_ERROR(vector.step(), "0.bias", "2 dimensions");
  vector.squash_mask();

  for (const double level : {-0.1, 1.5, std::nan("")}) {
    SaliencyPruner pruner({.sparsity_level = level});
    pruner.prepare(model.ptr());
    EXPECT_ERROR(pruner.step(), "0.weight", "[0, 1]");
    EXPECT_TENSORS_EQUAL(pruner.mask("0.weight"), bools({1, 1, 1}));
    pruner.squash_mask();
  }

  FPGMPruner median({.sparsity_level = std::nan("")});
  median.prepare(model.ptr());
  EXPECT_ERROR(median.step(), "0.weight", "sparsity_level must be a number", "nan");
  EXPECT_TENSORS_EQUAL(median.mask("0.weight"), bools({1, 1, 1}));
  median.squash_mask();

  LSTMSaliencyPruner gates;
  gates.prepare(model.ptr());
  EXPECT_ERROR(gates.step(), "0.weight", "multiple of 4", "3");
  gates.squash_mask();

  FPGMPruner flat({}, [](const at::Tensor& rows) { return rows.sum(1); });
  flat.prepare(model.ptr());
  EXPECT_ERROR(flat.step(), "[3, 3]", "[3]");
}

}  // namespace
}  // namespace transformers
