#include <gtest/gtest.h>
#include <transformers/gptj/generation_gptj.h>
#include <transformers/llama/generation_llama.h>

#include <nlohmann/json.hpp>

#include "support/golden.h"
#include "support/tensor_assertions.h"

namespace transformers::testing {
namespace {

/// Two rows of `length` tokens in one layer; what they hold plays no part.
std::shared_ptr<Cache> filled_cache(const nlohmann::json& description) {
  const int64_t length = description.at("past_length");
  if (length == 0) {
    return nullptr;
  }
  std::shared_ptr<Cache> cache = std::make_shared<DynamicCache>();
  if (description.contains("window_length")) {
    cache = std::make_shared<SinkCache>(description.at("window_length"), 1);
  }
  cache->update(at::zeros({2, 1, length, 6}), at::zeros({2, 1, length, 6}), 0);
  return cache;
}

void expect_same(const at::Tensor& actual, const at::Tensor& expected) {
  ASSERT_EQ(actual.defined(), expected.defined());
  if (expected.defined()) {
    EXPECT_TENSORS_EQUAL(actual, expected);
  }
}

TEST(PrepareInputsForGenerationTest, GivesTheArgumentsOfTransformersInEachCase) {
  const Golden golden(golden_path("legacy", "prepare_inputs"));
  const auto cases = nlohmann::json::parse(golden.metadata().at("cases"));
  for (const auto& [name, description] : cases.items()) {
    SCOPED_TRACE(name);
    const auto tensor = [&, prefix = name](const std::string& argument) {
      return golden.tensor(prefix + "." + argument);
    };
    const ModelInputs inputs{.input_ids = tensor("inputs.input_ids"),
                             .attention_mask = tensor("inputs.attention_mask"),
                             .position_ids = tensor("inputs.position_ids"),
                             .token_type_ids = tensor("inputs.token_type_ids"),
                             .inputs_embeds = tensor("inputs.inputs_embeds"),
                             .past_key_values = filled_cache(description)};
    const auto prepared = description.at("family") == "llama" ? llama::prepare_inputs_for_generation(inputs)
                                                              : gptj::prepare_inputs_for_generation(inputs);
    expect_same(prepared.input_ids, tensor("outputs.input_ids"));
    expect_same(prepared.attention_mask, tensor("outputs.attention_mask"));
    expect_same(prepared.position_ids, tensor("outputs.position_ids"));
    expect_same(prepared.token_type_ids, tensor("outputs.token_type_ids"));
    expect_same(prepared.inputs_embeds, tensor("outputs.inputs_embeds"));
    EXPECT_EQ(prepared.past_key_values, inputs.past_key_values);
  }
}

TEST(PrepareInputsForGenerationTest, CountsTokensThatTheCacheHasForgotten) {
  auto cache = std::make_shared<SinkCache>(5, 1);
  cache->update(at::zeros({1, 1, 5, 6}), at::zeros({1, 1, 5, 6}), 0);
  const ModelInputs inputs{.input_ids = at::arange(9).unsqueeze(0), .past_key_values = cache};
  EXPECT_TENSORS_EQUAL(llama::prepare_inputs_for_generation(inputs, 8).input_ids, at::full({1, 1}, 8, at::kLong));
}

TEST(PrepareInputsForGenerationTest, NeedsIds) {
  EXPECT_ERROR(llama::prepare_inputs_for_generation({}), "input_ids");
  EXPECT_ERROR(gptj::prepare_inputs_for_generation({}), "input_ids");
}

}  // namespace
}  // namespace transformers::testing
