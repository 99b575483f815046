#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <transformers/utils/tokenization/tokenizer.h>

#include "support/temporary_folder.h"
#include "support/tensor_assertions.h"
#include "utils/generation/tiny_models.h"

namespace transformers::testing {
namespace {

at::Tensor flags(const std::vector<bool>& values) {
  auto tensor = at::zeros({static_cast<int64_t>(values.size())}, at::kBool);
  for (size_t i = 0; i < values.size(); ++i) {
    tensor[static_cast<int64_t>(i)] = values[i];
  }
  return tensor;
}

TEST(MaxLengthCriteriaTest, EndsEveryRowAtTheLength) {
  MaxLengthCriteria criteria(3);
  EXPECT_TENSORS_EQUAL(criteria(id_rows({{1, 2}, {3, 4}}), {}), flags({false, false}));
  EXPECT_TENSORS_EQUAL(criteria(id_rows({{1, 2, 3}, {3, 4, 5}}), {}), flags({true, true}));
}

TEST(MaxTimeCriteriaTest, EndsEveryRowWhenTheTimeIsOver) {
  EXPECT_TENSORS_EQUAL(MaxTimeCriteria(1e-9)(ids({1, 2}), {}), flags({true}));
  EXPECT_TENSORS_EQUAL(MaxTimeCriteria(3600)(ids({1, 2}), {}), flags({false}));
  const auto output = generate(*tiny_llama(), {.input_ids = ids({3, 7})},
                               {.max_new_tokens = 50, .max_time = 1e-9, .eos_token_id = {-1}});
  EXPECT_EQ(output.new_tokens, 1);
}

TEST(EosTokenCriteriaTest, EndsRowsWhoseLastTokenIsAnEndToken) {
  EXPECT_TENSORS_EQUAL(EosTokenCriteria({5, 9})(id_rows({{5, 1}, {1, 5}, {2, 9}}), {}), flags({false, true, true}));
}

TEST(StoppingCriteriaTest, OwnCriteriaEndRowsToo) {
  class AtSeven : public StoppingCriteria {
   public:
    at::Tensor operator()(const at::Tensor& input_ids, const std::vector<at::Tensor>& scores) override {
      steps = scores.size();
      return input_ids.select(1, -1).eq(7);
    }
    size_t steps = 0;
  };
  const auto criterion = std::make_shared<AtSeven>();
  const auto output = generate(*tiny_llama(), {.input_ids = ids({3, 4})},
                               {.max_new_tokens = 6, .output_scores = true, .eos_token_id = {-1}},
                               {.logits_processors = {std::make_shared<ForcedText>(std::vector<int64_t>{2, 7, 2})},
                                .stopping_criteria = {criterion}});
  EXPECT_TENSORS_EQUAL(output.sequences, ids({3, 4, 2, 7}));
  EXPECT_EQ(criterion->steps, 2U);
}

class StopStringCriteriaTest : public ::testing::TestWithParam<const char*> {
 protected:
  std::shared_ptr<Tokenizer> tokenizer =
      load_tokenizer(source_path(std::string("tests/golden/tokenization/") + GetParam()));

  /// After how many tokens of the text it says so; −1: never.
  int64_t stop_length(const std::string& text, std::vector<std::string> stops) {
    StopStringCriteria criteria(tokenizer, std::move(stops));
    const auto all = ids(tokenizer->encode(text, /*add_special_tokens=*/false));
    for (int64_t length = 1; length <= all.size(1); ++length) {
      if (criteria(all.slice(1, 0, length), {}).item<bool>()) {
        return length;
      }
    }
    return -1;
  }

  /// How many tokens it takes until the text holds `stop`, found by decoding every beginning.
  int64_t expected_length(const std::string& text, const std::string& stop) {
    const auto all = tokenizer->encode(text, /*add_special_tokens=*/false);
    for (size_t length = 1; length <= all.size(); ++length) {
      if (tokenizer->decode({all.data(), length}).find(stop) != std::string::npos) {
        return static_cast<int64_t>(length);
      }
    }
    return -1;
  }
};

TEST_P(StopStringCriteriaTest, EndsWithTheTokenThatCompletesTheString) {
  const std::string text = "The quick brown fox, 世界 and \U0001F600 again.\nThe end";
  for (const std::string stop : {"quick", "ick brown f", "世界", "界 and", "\U0001F600", "again.\n", "d", "The end"}) {
    SCOPED_TRACE(stop);
    ASSERT_NE(expected_length(text, stop), -1);
    EXPECT_EQ(stop_length(text, {stop}), expected_length(text, stop));
    EXPECT_EQ(stop_length(text, {"not there", stop}), expected_length(text, stop));
  }
  EXPECT_EQ(stop_length(text, {"quicker", "Fox"}), -1);
}

TEST_P(StopStringCriteriaTest, AStringThatEndedBeforeTheLastTokenIsPast) {
  StopStringCriteria criteria(tokenizer, {"quick"});
  const auto all = ids(tokenizer->encode("The quick brown fox jumps", /*add_special_tokens=*/false));
  EXPECT_FALSE(criteria(all, {}).item<bool>());
}

TEST_P(StopStringCriteriaTest, IdsWithoutATokenAreNoText) {
  StopStringCriteria criteria(tokenizer, {"x"});
  const auto beyond = tokenizer->vocab_size() + 5;
  EXPECT_FALSE(criteria(ids({beyond}), {}).item<bool>());
  auto row = tokenizer->encode("x", /*add_special_tokens=*/false);
  row.insert(row.begin(), beyond);
  EXPECT_TRUE(criteria(ids(row), {}).item<bool>());
}

TEST_P(StopStringCriteriaTest, StopsGenerationRowByRow) {
  const auto model = tiny_llama(tokenizer->vocab_size());
  const auto tokens = tokenizer->encode("one two three", /*add_special_tokens=*/false);
  const auto output = generate(*model, {.input_ids = ids({tokens[0]})},
                               {.max_new_tokens = 40, .stop_strings = {"two"}, .eos_token_id = {-1}},
                               {.logits_processors = {std::make_shared<ForcedText>(tokens)}, .tokenizer = tokenizer});
  EXPECT_EQ(output.new_tokens, expected_length("one two three", "two"));
}

TEST_P(StopStringCriteriaTest, NothingToLookForIsRefused) {
  EXPECT_ERROR(StopStringCriteria(tokenizer, {}), "stop_strings must hold at least one");
  EXPECT_ERROR(StopStringCriteria(tokenizer, {"a", ""}), "stop_strings must not hold an empty");
  EXPECT_ERROR(StopStringCriteria(nullptr, {"a"}), "tokenizer");
}

INSTANTIATE_TEST_SUITE_P(Tokenizers, StopStringCriteriaTest, ::testing::Values("gpt2", "llama2"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace transformers::testing
