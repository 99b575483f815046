#include <gtest/gtest.h>
#include <transformers/llama/modeling_llama.h>

#include <nlohmann/json.hpp>

#include "support/golden.h"
#include "support/tensor_assertions.h"
#include "utils/generation/logits_processor_list.h"

namespace transformers::testing {
namespace {

LlamaForCausalLM model_with_vocabulary(int64_t vocab_size) {
  LlamaConfig config;
  config.vocab_size = vocab_size;
  config.hidden_size = 8;
  config.intermediate_size = 8;
  config.num_hidden_layers = 1;
  config.num_attention_heads = 1;
  const ConstructionGuard guard({.initialize = false});
  return LlamaForCausalLM(config);
}

class LogitsProcessorGoldenTest : public ::testing::Test {
 protected:
  const Golden golden{golden_path("generation", "processors")};
  const nlohmann::json cases = nlohmann::json::parse(golden.metadata().at("cases"));

  void expect_case(const std::string& name) {
    SCOPED_TRACE(name);
    const auto input = [&](const char* argument) { return golden.tensor(name + "." + argument); };
    const auto config = GenerationConfig::from_json(cases.at(name).at("options").dump(), name);
    const auto scores = input("scores"), given = scores.clone();
    auto model = model_with_vocabulary(scores.size(1));
    const auto processors = make_logits_processors(config,
                                                   {.model = *model,
                                                    .eos_token_id = config.eos_token_id,
                                                    .prompt_length = cases.at(name).at("prompt_length"),
                                                    .max_length = config.max_length.value_or(1000),
                                                    .attention_mask = input("attention_mask")},
                                                   {});
    auto processed = scores;
    for (const auto& processor : processors) {
      processed = (*processor)(input("input_ids"), processed);
    }
    EXPECT_TENSORS_CLOSE(processed, input("processed"));
    EXPECT_TENSORS_EQUAL(scores, given);
  }
};

TEST_F(LogitsProcessorGoldenTest, EveryOptionGivesTheScoresOfTransformers) {
  ASSERT_GE(cases.size(), 40U);
  for (const auto& [name, description] : cases.items()) {
    expect_case(name);
  }
}

}  // namespace
}  // namespace transformers::testing
