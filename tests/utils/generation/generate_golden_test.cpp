#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>
#include <transformers/auto/modeling_auto.h>
#include <transformers/utils/generation/generate.h>

#include <nlohmann/json.hpp>

#include "support/golden.h"
#include "support/temporary_folder.h"
#include "support/tensor_assertions.h"

namespace transformers::testing {
namespace {

constexpr double kTolerance = 1e-5;     // of the largest value, as for the models themselves
constexpr uint64_t kSamplingSeed = 11;  // that of scripts/goldens/generation.py

/// Elements that are forbidden are so in both; the others are close.
void expect_scores(const at::Tensor& actual, const at::Tensor& expected) {
  EXPECT_TENSORS_EQUAL(actual.isneginf(), expected.isneginf());
  EXPECT_TRUE(tensors_close_to_largest(actual.nan_to_num(0, 0, 0), expected.nan_to_num(0, 0, 0), kTolerance));
}

/// The model with the weights that the golden gives for an assistant; null where there are none.
std::shared_ptr<CausalLM> assistant_of(const Golden& golden, const CausalLM& model) {
  const auto weights = golden.all("assistant.");
  if (weights.empty()) {
    return nullptr;
  }
  const auto assistant = std::dynamic_pointer_cast<CausalLM>(model.clone());
  const at::NoGradGuard no_grad;
  for (auto& parameter : assistant->named_parameters()) {
    parameter->copy_(weights.at(parameter.key()));
  }
  return assistant;
}

class GenerateGoldenTest : public ::testing::TestWithParam<std::string> {};

TEST_P(GenerateGoldenTest, GivesTheSequencesAndScoresOfTransformers) {
  const Golden golden(golden_path("generation", GetParam()));
  const TemporaryFolder folder;
  golden.write_folder(folder.path().string());
  const auto model = AutoModelForCausalLM::from_pretrained(folder.path().string());
  auto config = GenerationConfig::from_json(nlohmann::json::parse(golden.metadata().at("case")).at("options").dump());
  config.output_scores = true;
  const auto output = generate(
      *model,
      {.input_ids = golden.tensor("inputs.input_ids"), .attention_mask = golden.tensor("inputs.attention_mask")},
      config,
      {.assistant_model = assistant_of(golden, *model), .generator = at::detail::createCPUGenerator(kSamplingSeed)});

  EXPECT_TENSORS_EQUAL(output.sequences, golden.tensor("outputs.sequences"));
  const auto scores = golden.all("outputs.scores.");
  for (const auto& [step, expected] : scores) {
    SCOPED_TRACE("step " + step);
    ASSERT_LT(std::stoul(step), output.scores.size());
    expect_scores(output.scores[std::stoul(step)], expected);
  }
  if (!scores.empty()) {
    EXPECT_EQ(output.scores.size(), scores.size());
  }
  if (const auto expected = golden.tensor("outputs.sequences_scores"); expected.defined()) {
    expect_scores(output.sequences_scores, expected);
    EXPECT_TENSORS_EQUAL(output.beam_indices, golden.tensor("outputs.beam_indices").to(at::kLong));
  }
}

std::vector<std::string> cases() {
  auto names = golden_names("generation", "llama_");
  const auto gptj = golden_names("generation", "gptj_");
  names.insert(names.end(), gptj.begin(), gptj.end());
  return names;
}

INSTANTIATE_TEST_SUITE_P(Cases, GenerateGoldenTest, ::testing::ValuesIn(cases()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace transformers::testing
