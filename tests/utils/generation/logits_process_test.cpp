#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <limits>

#include "support/tensor_assertions.h"
#include "utils/generation/tiny_models.h"

namespace transformers::testing {
namespace {

// Most behaviour is compared with transformers in logits_process_golden_test.cpp; here stands what can be said by hand.

constexpr double kInf = std::numeric_limits<double>::infinity();

at::Tensor scores(const std::vector<double>& row) { return at::tensor(row, at::kFloat).unsqueeze(0); }

TEST(ForcedBOSTokenLogitsProcessorTest, ForcesTheSecondTokenOnly) {
  ForcedBOSTokenLogitsProcessor processor(1);
  EXPECT_TENSORS_EQUAL(processor(ids({4}), scores({3, 2, 1})), scores({-kInf, 0, -kInf}));
  EXPECT_TENSORS_EQUAL(processor(ids({4, 4}), scores({3, 2, 1})), scores({3, 2, 1}));
}

TEST(PrefixConstrainedLogitsProcessorTest, ImpossibleTokensBecomePossibleWhenAllowedAlone) {
  PrefixConstrainedLogitsProcessor processor(
      [](int64_t, const at::Tensor&) {
        return std::vector<int64_t>{1, 2};
      },
      /*num_beams=*/1);
  EXPECT_TENSORS_EQUAL(processor(ids({0}), scores({1, 2, 3})), scores({-kInf, 2, 3}));
  EXPECT_TENSORS_EQUAL(processor(ids({0}), scores({1, -kInf, -kInf})), scores({-kInf, 0, 0}));
}

TEST(SequenceBiasLogitsProcessorTest, TheLastBiasOfASequenceHolds) {
  SequenceBiasLogitsProcessor processor({{{1}, 5.0}, {{1}, 2.0}, {{0, 2}, 1.0}, {{3, 0, 2}, 4.0}});
  EXPECT_TENSORS_EQUAL(processor(ids({3, 0}), scores({0, 0, 0, 0})), scores({0, 2, 5, 0}));
  EXPECT_TENSORS_EQUAL(processor(ids({0}), scores({0, 0, 0, 0})), scores({0, 2, 1, 0}));
}

TEST(TopPLogitsWarperTest, BehindTopKKeepsTheTokensThatASortOfAllWouldKeep) {
  at::manual_seed(3);
  for (const double top_p : {0.0, 0.3, 0.9, 1.0}) {
    for (const bool with_ties : {false, true}) {
      const auto drawn = at::randn({3, 4000}) * 4;
      const auto given = TopKLogitsWarper(50)({}, with_ties ? drawn.round() : drawn);
      const auto [sorted, order] = given.sort(-1);
      auto removed = sorted.softmax(-1).cumsum(-1).le(1 - top_p);
      removed.narrow(1, 3999, 1).fill_(false);
      const auto expected = given.masked_fill(removed.scatter(1, order, removed), -kInf);
      EXPECT_TENSORS_EQUAL(TopPLogitsWarper(top_p)({}, given), expected);
    }
  }
}

TEST(TopKLogitsWarperTest, TokensThatTieWithTheLastStay) {
  EXPECT_TENSORS_EQUAL(TopKLogitsWarper(2)({}, scores({1, 3, 2, 2, 0})), scores({-kInf, 3, 2, 2, -kInf}));
  EXPECT_TENSORS_EQUAL(TopKLogitsWarper(9)({}, scores({1, 3})), scores({1, 3}));
}

TEST(LogitsWarperTest, AtLeastTheBestTokensStay) {
  const auto given = scores({9, 1, 2, 0});
  const auto two_best = scores({9, -kInf, 2, -kInf});
  EXPECT_TENSORS_EQUAL(TopKLogitsWarper(1, 2)({}, given), two_best);
  EXPECT_TENSORS_EQUAL(TopPLogitsWarper(0.1, 2)({}, given), two_best);
  EXPECT_TENSORS_EQUAL(MinPLogitsWarper(0.9, 2)({}, given), two_best);
  EXPECT_TENSORS_EQUAL(EpsilonLogitsWarper(0.9, 2)({}, given), two_best);
  EXPECT_TENSORS_EQUAL(EtaLogitsWarper(0.9, 2)({}, given), two_best);
}

TEST(LogitsWarperTest, MoreTokensToKeepThanThereAreKeepsAll) {
  const auto given = scores({9, 1, 2});
  EXPECT_TENSORS_EQUAL(TopPLogitsWarper(0.1, 5)({}, given), given);
  EXPECT_TENSORS_EQUAL(MinPLogitsWarper(0.9, 5)({}, given), given);
  EXPECT_TENSORS_EQUAL(TypicalLogitsWarper(0.1, 5)({}, given), given);
  EXPECT_TENSORS_EQUAL(EpsilonLogitsWarper(0.9, 5)({}, given), given);
}

TEST(LogitsProcessorTest, ParametersOutOfRangeAreRefused) {
  EXPECT_ERROR(TemperatureLogitsWarper(0), "temperature must be above 0", "0");
  EXPECT_ERROR(TemperatureLogitsWarper(std::numeric_limits<double>::quiet_NaN()), "temperature", "nan");
  EXPECT_ERROR(TopKLogitsWarper(0), "top_k must be above 0");
  EXPECT_ERROR(TopPLogitsWarper(1.5), "top_p must be in [0, 1]", "1.5");
  EXPECT_ERROR(TopPLogitsWarper(0.5, 0), "min_tokens_to_keep must be 1 or above");
  EXPECT_ERROR(MinPLogitsWarper(-0.1), "min_p must be in [0, 1]");
  EXPECT_ERROR(TopHLogitsWarper(0), "top_h must be in (0, 1]");
  EXPECT_ERROR(TypicalLogitsWarper(1), "typical_p must be in (0, 1)");
  EXPECT_ERROR(EpsilonLogitsWarper(1), "epsilon_cutoff must be in (0, 1)");
  EXPECT_ERROR(EtaLogitsWarper(0), "eta_cutoff must be in (0, 1)");
  EXPECT_ERROR(RepetitionPenaltyLogitsProcessor(0), "repetition_penalty must be above 0");
  EXPECT_ERROR(NoRepeatNGramLogitsProcessor(0), "no_repeat_ngram_size must be above 0");
  EXPECT_ERROR(MinLengthLogitsProcessor(-1, {2}), "min_length must be 0 or above");
  EXPECT_ERROR(SequenceBiasLogitsProcessor({{{}, 1.0}}), "non-empty lists");
  EXPECT_ERROR(NoBadWordsLogitsProcessor({{}}, {}), "non-empty lists");
  EXPECT_ERROR(SequenceBiasLogitsProcessor({{{7}, 1.0}})(ids({0}), scores({1, 2})), "must be token ids in [0, 2)", "7");
}

}  // namespace
}  // namespace transformers::testing
