#include <gtest/gtest.h>

#include <limits>

#include "support/tensor_assertions.h"
#include "utils/generation/tiny_models.h"

namespace transformers::testing {
namespace {

class SilentStreamer : public Streamer {
 public:
  bool put(const at::Tensor&) override { return true; }
  void end() override {}
};

class GenerateErrorsTest : public ::testing::Test {
 protected:
  std::shared_ptr<CausalLM> model = tiny_llama();
  ModelInputs prompt{.input_ids = ids({3, 7, 1})};

  GenerateOutput call(const GenerationConfig& config, const GenerateHooks& hooks = {}) {
    return generate(*model, prompt, config, hooks);
  }
};

TEST_F(GenerateErrorsTest, APromptThatReachesMaxLengthIsRefused) {
  EXPECT_ERROR(call({.max_length = 3}), "shorter than max_length", "3 and 3");
  prompt.input_ids = at::ones({1, 64}, at::kLong);
  EXPECT_ERROR(call({}), "shorter than max_length", "64 and 64");
}

TEST_F(GenerateErrorsTest, AnEmptyOrMisshapenPromptIsRefused) {
  prompt.input_ids = at::empty({1, 0}, at::kLong);
  EXPECT_ERROR(call({}), "input_ids must not be empty");
  prompt.input_ids = at::ones({3}, at::kLong);
  EXPECT_ERROR(call({}), "input_ids must have shape [batch, seq]");
  prompt.input_ids.reset();
  model->generation_config.bos_token_id.reset();
  EXPECT_ERROR(call({}), "bos_token_id is needed");
  prompt.inputs_embeds = at::ones({3, 16});
  EXPECT_ERROR(call({}), "inputs_embeds must have shape");
}

TEST_F(GenerateErrorsTest, AMaskOfAnotherShapeIsRefused) {
  prompt.attention_mask = at::ones({1, 4}, at::kLong);
  EXPECT_ERROR(call({}), "attention_mask must have shape [1, 3]", "[1, 4]");
  prompt.attention_mask = at::ones({1, 1, 3, 3}, at::kLong);
  EXPECT_ERROR(call({}), "attention_mask must have shape");
}

TEST_F(GenerateErrorsTest, PositionsShorterThanThePromptAreRefused) {
  prompt.position_ids = at::ones({1, 2}, at::kLong);
  EXPECT_ERROR(call({}), "position_ids must have shape");
}

TEST_F(GenerateErrorsTest, ACacheThatHoldsThePromptAlreadyIsRefused) {
  prompt.past_key_values = call({.max_new_tokens = 2}).past_key_values;
  EXPECT_ERROR(call({}), "longer than the cache", "3 and 4", "attention_mask");
}

TEST_F(GenerateErrorsTest, ACacheBesideTheNameOfOneIsRefused) {
  prompt.past_key_values = std::make_shared<DynamicCache>();
  EXPECT_ERROR(call({.cache_implementation = "static"}), "cache_implementation", "past_key_values");
}

TEST_F(GenerateErrorsTest, RowsThatNoMachineHasMemoryForAreRefused) {
  prompt.input_ids = at::ones({64, 3}, at::kLong);
  EXPECT_ERROR(call({.num_beams = (int64_t{1} << 31) - 1}), "num_beams and num_return_sequences ask for",
               "this machine");
}

TEST_F(GenerateErrorsTest, OptionsThatMakeNoSenseAreRefusedWhenMerged) {
  EXPECT_ERROR(call({.max_new_tokens = 0}), "max_new_tokens must be");
  EXPECT_ERROR(call({.do_sample = true, .temperature = 0.0}), "temperature must be above 0");
  EXPECT_ERROR(call({.num_beams = 0}), "num_beams must be");
  EXPECT_ERROR(call({.num_return_sequences = 2}), "num_return_sequences");
  EXPECT_ERROR(call({.num_beams = 2, .num_return_sequences = 3}), "num_return_sequences", "3 and 2");
  model->generation_config.num_return_sequences = 3;
  EXPECT_ERROR(call({.num_beams = 2}), "num_return_sequences", "3 and 2");
}

TEST_F(GenerateErrorsTest, AForcedTokenThatIsSuppressedIsRefused) {
  EXPECT_ERROR(call({.forced_eos_token_id = {5}, .suppress_tokens = {4, 5}}), "forced_eos_token_id", "suppress_tokens");
  EXPECT_ERROR(call({.forced_bos_token_id = 4, .suppress_tokens = {4}}), "forced_bos_token_id", "suppress_tokens");
  EXPECT_NO_THROW(call({.forced_eos_token_id = {5, 6}, .suppress_tokens = {5}}));
}

TEST_F(GenerateErrorsTest, IdsOutsideTheVocabularyAreRefused) {
  EXPECT_ERROR(call({.bad_words_ids = {{1}, {2, 24}}}), "bad_words_ids must be in [0, 24)", "24");
  EXPECT_ERROR(call({.sequence_bias = {{{30}, 1.0}}}), "sequence_bias must be in [0, 24)", "30");
  EXPECT_ERROR(call({.forced_bos_token_id = 24}), "forced_bos_token_id must be in [0, 24)");
  EXPECT_ERROR(call({.forced_eos_token_id = {24}}), "forced_eos_token_id must be in [0, 24)");
  EXPECT_ERROR(call({}, {.prefix_allowed_tokens = [](int64_t, const at::Tensor&) { return std::vector<int64_t>{24}; }}),
               "prefix_allowed_tokens", "24");
  prompt.input_ids = ids({3, 24});
  EXPECT_ERROR(call({}), "input_ids must be in [0, 24)");
}

TEST_F(GenerateErrorsTest, APrefixThatAllowsNothingIsRefused) {
  EXPECT_ERROR(call({}, {.prefix_allowed_tokens = [](int64_t, const at::Tensor&) { return std::vector<int64_t>{}; }}),
               "prefix_allowed_tokens allows no token in row 0");
}

TEST_F(GenerateErrorsTest, AStreamerCannotFollowBeams) {
  EXPECT_ERROR(call({.num_beams = 2}, {.streamer = std::make_shared<SilentStreamer>()}), "streamer", "num_beams");
}

TEST_F(GenerateErrorsTest, StopStringsNeedATokenizer) {
  EXPECT_ERROR(call({.stop_strings = {"x"}}), "stop_strings", "tokenizer");
}

TEST_F(GenerateErrorsTest, ADecayTowardsTheEndNeedsAnEndToken) {
  EXPECT_ERROR(call({.exponential_decay_length_penalty = {{1, 1.5}}, .eos_token_id = {-1}}),
               "exponential_decay_length_penalty", "eos_token_id");
}

TEST_F(GenerateErrorsTest, TransitionScoresNeedScores) {
  EXPECT_ERROR(compute_transition_scores(ids({1}), {}), "scores of at least one step");
}

}  // namespace
}  // namespace transformers::testing
