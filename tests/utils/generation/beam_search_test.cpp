#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>

#include "support/tensor_assertions.h"
#include "utils/generation/tiny_models.h"

namespace transformers::testing {
namespace {

constexpr int64_t kNone = -1;  // an end token that never occurs

/// Sum of the log-probabilities of everything after the first `prompt` tokens.
double text_score(CausalLM& model, const at::Tensor& text, int64_t prompt) {
  const auto log_probs = model.forward({.input_ids = text, .use_cache = false}).logits.log_softmax(-1);
  const auto length = text.size(1);
  return log_probs.slice(1, prompt - 1, length - 1).gather(2, text.slice(1, prompt).unsqueeze(-1)).sum().item<double>();
}

TEST(BeamSearchTest, EnoughBeamsFindTheBestOfAllTexts) {
  const auto model = tiny_llama(/*vocab_size=*/5);
  const auto prompt = ids({3, 1});
  double best = -1e30;
  at::Tensor best_text;
  for (int64_t i = 0; i < 125; ++i) {
    const auto text = at::cat({prompt, ids({i / 25, i / 5 % 5, i % 5})}, 1);
    if (const auto score = text_score(*model, text, 2); score > best) {
      best = score;
      best_text = text;
    }
  }
  const auto found =
      generate(*model, {.input_ids = prompt}, {.max_new_tokens = 3, .num_beams = 25, .eos_token_id = {kNone}});
  EXPECT_TENSORS_EQUAL(found.sequences, best_text);
  EXPECT_NEAR(found.sequences_scores[0].item<double>(), best / 3, 1e-5);
}

TEST(BeamSearchTest, CachesOfEachKindAndNoneGiveTheSameTexts) {
  for (const auto& model : tiny_models()) {
    const ModelInputs inputs{.input_ids = id_rows({{0, 0, 3, 7}, {4, 9, 2, 2}}),
                             .attention_mask = id_rows({{0, 0, 1, 1}, {1, 1, 1, 1}})};
    GenerationConfig config{
        .max_new_tokens = 7, .num_beams = 3, .num_return_sequences = 2, .pad_token_id = 0, .eos_token_id = {5}};
    const auto dynamic = generate(*model, inputs, config);
    config.cache_implementation = "static";
    EXPECT_TENSORS_EQUAL(generate(*model, inputs, config).sequences, dynamic.sequences);
    config.cache_implementation.reset();
    config.use_cache = false;
    EXPECT_TENSORS_EQUAL(generate(*model, inputs, config).sequences, dynamic.sequences);
  }
}

TEST(BeamSearchTest, TransitionScoresAddUpToTheSequenceScores) {
  for (const auto& model : tiny_models()) {
    const GenerationConfig config{.max_new_tokens = 7,
                                  .num_beams = 4,
                                  .length_penalty = 0.7,
                                  .num_return_sequences = 3,
                                  .output_scores = true,
                                  .pad_token_id = 0,
                                  .eos_token_id = {5, 11}};
    const auto output = generate(*model, {.input_ids = id_rows({{3, 7}, {4, 9}})}, config);
    const auto scores = compute_transition_scores(output.sequences, output.scores, output.beam_indices);
    const auto lengths = output.beam_indices.ge(0).sum(1);
    EXPECT_TENSORS_CLOSE(scores.sum(1) / lengths.pow(0.7), output.sequences_scores, {1e-5, 1e-5});
    EXPECT_EQ(output.new_tokens, lengths.sum().item<int64_t>());
    EXPECT_TENSORS_EQUAL(scores.eq(0), output.beam_indices.lt(0));
  }
}

TEST(BeamSearchTest, TransitionScoresOfGreedySearchAreThoseOfTheTokensTaken) {
  const auto model = tiny_llama();
  const GenerationConfig config{.max_new_tokens = 4, .output_scores = true, .eos_token_id = {kNone}};
  const auto output = generate(*model, {.input_ids = id_rows({{3, 7}, {4, 9}})}, config);
  const auto best = at::stack(output.scores, 1).amax(-1);
  EXPECT_TENSORS_EQUAL(compute_transition_scores(output.sequences, output.scores), best);
  const auto normalized = compute_transition_scores(output.sequences, output.scores, {}, /*normalize_logits=*/true);
  EXPECT_TENSORS_CLOSE(normalized, at::stack(output.scores, 1).log_softmax(-1).amax(-1));
}

TEST(BeamSearchTest, ShorterTextsAreFilledWithThePadTokenEvenWhenItIsZero) {
  const auto model = tiny_llama();
  GenerationConfig config{
      .max_new_tokens = 8, .num_beams = 6, .length_penalty = -2.0, .num_return_sequences = 6, .eos_token_id = {5, 11}};
  config.early_stopping = EarlyStopping::kNever;
  config.pad_token_id = 0;
  const auto output = generate(*model, {.input_ids = ids({3, 7})}, config);
  const auto ended = output.beam_indices.lt(0);
  ASSERT_TRUE(ended.any().item<bool>());
  EXPECT_TRUE(output.sequences.slice(1, 2).masked_select(ended).eq(0).all().item<bool>());
}

TEST(BeamSearchTest, ProcessorsSeeEveryBeamOfARow) {
  const auto model = tiny_llama();
  std::vector<int64_t> rows;
  const auto allowed = [&](int64_t row, const at::Tensor&) {
    rows.push_back(row);
    return std::vector<int64_t>{6, 7};
  };
  const auto output =
      generate(*model, {.input_ids = id_rows({{3, 7}, {4, 9}})},
               {.max_new_tokens = 1, .num_beams = 2, .eos_token_id = {kNone}}, {.prefix_allowed_tokens = allowed});
  EXPECT_EQ(rows, (std::vector<int64_t>{0, 0, 1, 1}));
  EXPECT_TRUE(output.sequences.select(1, 2).ge(6).logical_and(output.sequences.select(1, 2).le(7)).all().item<bool>());
}

TEST(BeamSearchTest, TheSameSeedDrawsTheSameBeams) {
  const auto model = tiny_llama();
  const GenerationConfig config{
      .max_new_tokens = 8, .do_sample = true, .num_beams = 3, .temperature = 3.0, .eos_token_id = {kNone}};
  const auto draw = [&](uint64_t seed) {
    return generate(*model, {.input_ids = ids({3, 7})}, config, {.generator = at::detail::createCPUGenerator(seed)})
        .sequences;
  };
  EXPECT_TENSORS_EQUAL(draw(1), draw(1));
  EXPECT_FALSE(at::equal(draw(1), draw(2)));
}

}  // namespace
}  // namespace transformers::testing
