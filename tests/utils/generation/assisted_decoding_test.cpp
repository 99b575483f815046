#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>

#include "support/tensor_assertions.h"
#include "utils/generation/tiny_models.h"

namespace transformers::testing {
namespace {

const std::vector<int64_t> kRepetitive{5, 9, 6, 11, 5, 9, 6, 4, 5, 9};

/// The same weights with some noise: often right about the model's next token.
std::shared_ptr<CausalLM> assistant_of(const CausalLM& model, double noise) {
  const auto assistant = std::dynamic_pointer_cast<CausalLM>(model.clone());
  const at::NoGradGuard no_grad;
  const auto generator = at::detail::createCPUGenerator(3);
  for (auto& parameter : assistant->parameters()) {
    parameter.add_(at::empty_like(parameter).normal_(0, noise, generator));
  }
  return assistant;
}

std::vector<GenerationConfig> greedy_configs() {
  return {{.max_new_tokens = 20, .eos_token_id = {-1}},
          {.max_new_tokens = 20, .repetition_penalty = 1.4, .eos_token_id = {-1}},
          {.max_new_tokens = 20, .no_repeat_ngram_size = 3, .bad_words_ids = {{7}, {5, 9}}, .eos_token_id = {-1}},
          {.max_new_tokens = 20, .min_new_tokens = 7, .eos_token_id = {2, 6, 11}},
          {.max_new_tokens = 1, .eos_token_id = {-1}},
          {.max_new_tokens = 2, .eos_token_id = {-1}}};
}

/// Sequences, scores, outputs of each step and the cache are those of decoding without drafts.
void expect_as_without_drafts(CausalLM& model, const ModelInputs& inputs, GenerationConfig config,
                              const GenerationConfig& drafts, const GenerateHooks& hooks) {
  config.output_scores = config.output_logits = true;
  const auto expected = generate(model, inputs, config);
  const auto found = generate(model, inputs, drafts.with_defaults(config), hooks);
  EXPECT_TENSORS_EQUAL(found.sequences, expected.sequences);
  EXPECT_EQ(found.new_tokens, expected.new_tokens);
  EXPECT_EQ(found.past_key_values->get_seq_length(), expected.past_key_values->get_seq_length());
  const Tolerance close{1e-4, 1e-4};
  for (const auto steps : {&GenerateOutput::scores, &GenerateOutput::logits}) {
    EXPECT_TENSORS_CLOSE(at::stack(found.*steps), at::stack(expected.*steps), close);
  }
  for (const auto outputs : {&GenerateOutput::attentions, &GenerateOutput::hidden_states}) {
    ASSERT_EQ((found.*outputs).size(), (expected.*outputs).size());
    for (size_t step = 0; step < (found.*outputs).size(); ++step) {
      ASSERT_EQ((found.*outputs)[step].size(), (expected.*outputs)[step].size());
      for (size_t layer = 0; layer < (found.*outputs)[step].size(); ++layer) {
        if ((expected.*outputs)[step][layer].defined()) {
          EXPECT_TENSORS_CLOSE((found.*outputs)[step][layer], (expected.*outputs)[step][layer], close);
        }
      }
    }
  }
}

TEST(AssistedDecodingTest, DraftsFromTheTextGiveTheTokensOfGreedySearch) {
  for (const auto& model : tiny_models()) {
    for (const auto& config : greedy_configs()) {
      for (const int64_t drafted : {1, 3, 10}) {
        expect_as_without_drafts(*model, {.input_ids = ids(kRepetitive)}, config,
                                 {.prompt_lookup_num_tokens = drafted, .max_matching_ngram_size = 3}, {});
      }
    }
  }
}

TEST(AssistedDecodingTest, DraftsOfAnAssistantGiveTheTokensOfGreedySearch) {
  for (const auto& model : tiny_models()) {
    for (const auto& config : greedy_configs()) {
      for (const char* schedule : {"constant", "heuristic"}) {
        expect_as_without_drafts(*model, {.input_ids = ids(kRepetitive)}, config,
                                 {.num_assistant_tokens = 4, .num_assistant_tokens_schedule = schedule},
                                 {.assistant_model = assistant_of(*model, 0.05)});
      }
    }
  }
}

TEST(AssistedDecodingTest, AttentionsAndHiddenStatesOfEachStepAreThoseOfThatStepAlone) {
  const auto model = tiny_llama();
  model->set_attn_implementation(AttnImplementation::kEager);
  expect_as_without_drafts(*model,
                           {.input_ids = ids(kRepetitive), .output_attentions = true, .output_hidden_states = {0, 2}},
                           greedy_configs().front(), {.prompt_lookup_num_tokens = 4}, {});
}

TEST(AssistedDecodingTest, APaddedRowAndAGivenCacheContinueAsWithoutDrafts) {
  for (const auto& model : tiny_models()) {
    const auto config = greedy_configs().front();
    const ModelInputs padded{.input_ids = ids({0, 0, 5, 9, 6, 4, 5, 9}),
                             .attention_mask = ids({0, 0, 1, 1, 1, 1, 1, 1})};
    expect_as_without_drafts(*model, padded, config, {.prompt_lookup_num_tokens = 3}, {});
    expect_as_without_drafts(*model, padded, config, {}, {.assistant_model = assistant_of(*model, 0.05)});

    const auto with_cache = [&] {
      const auto output = model->forward({.input_ids = ids({5, 9, 6, 4}), .use_cache = true});
      return ModelInputs{.input_ids = ids(kRepetitive), .past_key_values = output.past_key_values};
    };
    const auto expected = generate(*model, with_cache(), config).sequences;
    EXPECT_TENSORS_EQUAL(
        generate(*model, with_cache(), config, {.assistant_model = assistant_of(*model, 0.05)}).sequences, expected);
  }
}

TEST(AssistedDecodingTest, AnAssistantThatIsRightSavesForwards) {
  for (const auto& model : tiny_models()) {
    const auto assistant = assistant_of(*model, 0);
    int64_t forwards = 0;
    model->get_output_embeddings()->register_forward_hook([&](const at::Tensor&, const at::Tensor&) {
      ++forwards;
      return at::Tensor();
    });
    const GenerationConfig config{
        .max_new_tokens = 20, .num_assistant_tokens = 4, .assistant_confidence_threshold = 0.0, .eos_token_id = {-1}};
    const auto output = generate(*model, {.input_ids = ids(kRepetitive)}, config, {.assistant_model = assistant});
    EXPECT_EQ(forwards, 4);  // of five tokens each
    EXPECT_EQ(output.drafted_tokens, 16);
    EXPECT_EQ(output.accepted_tokens, 16);
  }
}

/// How often each pair of first new tokens was drawn, fp64 [vocab, vocab].
at::Tensor pairs_drawn(CausalLM& model, GenerationConfig config, GenerateHooks hooks, int64_t draws) {
  auto counts = at::zeros({model.config().vocab_size, model.config().vocab_size}, at::kDouble);
  config.do_sample = true;
  config.top_k = 0;
  config.max_new_tokens = 2;
  config.eos_token_id = {-1};
  hooks.generator = at::detail::createCPUGenerator(5);
  for (int64_t i = 0; i < draws; ++i) {
    const auto drawn = generate(model, {.input_ids = ids(kRepetitive)}, config, hooks).sequences[0].slice(0, -2);
    counts[drawn[0].item<int64_t>()][drawn[1].item<int64_t>()] += 1;
  }
  return counts;
}

// With the counts of 24² = 576 cells the statistic has a mean of at most 575 and a deviation of 34.
TEST(AssistedDecodingTest, SamplesHaveTheModelsOwnDistribution) {
  constexpr int64_t kDraws = 2000;
  const auto model = tiny_llama();
  const auto first = model->forward({.input_ids = ids(kRepetitive)}).logits[0][-1].softmax(-1);
  std::vector<at::Tensor> rows;
  for (int64_t token = 0; token < model->config().vocab_size; ++token) {
    const auto text = at::cat({ids(kRepetitive), ids({token})}, 1);
    rows.push_back(first[token] * model->forward({.input_ids = text}).logits[0][-1].softmax(-1));
  }
  const auto expected = at::stack(rows).to(at::kDouble) * kDraws;
  const auto expect_distribution = [&](const char* what, const at::Tensor& counts) {
    const auto statistic = ((counts - expected).square() / expected.clamp_min(0.5)).sum().item<double>();
    EXPECT_LT(statistic, 575 + 4 * 34) << what;
  };
  expect_distribution("prompt lookup", pairs_drawn(*model, {.prompt_lookup_num_tokens = 2}, {}, kDraws));
  const GenerationConfig config{.num_assistant_tokens = 2, .assistant_confidence_threshold = 0.0};
  expect_distribution("assistant", pairs_drawn(*model, config, {.assistant_model = assistant_of(*model, 0.1)}, kDraws));
}

/// Remembers what it was given, and asks to stop after some puts.
class CountingStreamer : public Streamer {
 public:
  explicit CountingStreamer(size_t most) : most_(most) {}
  bool put(const at::Tensor& tokens) override {
    puts.push_back(tokens);
    return puts.size() < most_;
  }
  void end() override { ++ends; }

  std::vector<at::Tensor> puts;
  int ends = 0;

 private:
  size_t most_;
};

TEST(AssistedDecodingTest, AStreamerGetsEachTokenAndMayStopInTheMiddleOfADraft) {
  const auto model = tiny_llama();
  const auto config = greedy_configs().front();
  const auto expected = generate(*model, {.input_ids = ids(kRepetitive)}, config).sequences[0];
  for (const size_t most : {2U, 4U, 8U, 100U}) {
    const auto streamer = std::make_shared<CountingStreamer>(most);
    const auto output = generate(*model, {.input_ids = ids(kRepetitive)}, config,
                                 {.streamer = streamer, .assistant_model = assistant_of(*model, 0)});
    const auto puts = std::min<size_t>(most, 21);
    ASSERT_EQ(streamer->puts.size(), puts);
    EXPECT_EQ(streamer->ends, 1);
    EXPECT_TENSORS_EQUAL(output.sequences[0], expected.slice(0, 0, static_cast<int64_t>(9 + puts)));
    EXPECT_TENSORS_EQUAL(streamer->puts.back(), output.sequences[0].slice(0, -1));
    EXPECT_EQ(output.past_key_values->get_seq_length(), output.sequences.size(1) - 1);
  }
}

TEST(AssistedDecodingTest, RefusesWhatDraftsCannotBeComparedWith) {
  const auto model = tiny_llama();
  const ModelInputs row{.input_ids = ids(kRepetitive)};
  const auto refused = [&](const ModelInputs& inputs, GenerationConfig config, const char* what) {
    config.prompt_lookup_num_tokens = 2;
    EXPECT_ERROR(generate(*model, inputs, config), "assisted decoding", what);
  };
  refused(row, {.num_beams = 2}, "beams");
  refused(row, {.do_sample = true, .num_return_sequences = 2}, "several rows");
  refused({.input_ids = id_rows({{1, 2}, {3, 4}})}, {}, "several rows");
  refused(row, {.use_cache = false}, "use_cache");
  refused(row, {.cache_implementation = "static"}, "dynamic");
  refused({.input_ids = ids(kRepetitive), .past_key_values = std::make_shared<StaticCache>(64)}, {}, "dynamic");
  refused(row, {.guidance_scale = 1.5}, "guidance_scale");
  refused({.inputs_embeds = at::zeros({1, 4, 16})}, {}, "inputs_embeds");
  EXPECT_ERROR(generate(*model, row, {}, {.assistant_model = tiny_llama(25)}), "must have the model's vocabulary", "25",
               "24");
  EXPECT_ERROR(generate(*model, row, {.prompt_lookup_num_tokens = 0}), "prompt_lookup_num_tokens must be in [1, 2^31)");
  EXPECT_ERROR(generate(*model, row, {.num_assistant_tokens_schedule = "rising"}), "num_assistant_tokens_schedule",
               "\"rising\"");
}

}  // namespace
}  // namespace transformers::testing
