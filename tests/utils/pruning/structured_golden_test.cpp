// Against torch.ao.pruning of Python (scripts/goldens/pruning.py). Where the reference is at fault the golden holds no
// pruned results, and the masked model is the measure, as it is for all others besides.
#include <gmock/gmock.h>
#include <transformers/utils/pruning/pruners.h>

#include "support/golden_collection.h"
#include "support/tensor_assertions.h"
#include "utils/pruning/layers.h"

namespace transformers {
namespace {

using testing::golden_cases;
using testing::GoldenCase;
using testing::LSTMLinear;
using testing::sequential_of;

StateDict under(const GoldenCase& golden, const std::string& prefix) {
  StateDict state;
  for (const auto& [name, tensor] : golden.tensors) {
    if (name.starts_with(prefix)) {
      state.insert(name.substr(prefix.size()), tensor);
    }
  }
  return state;
}

std::unique_ptr<BaseStructuredSparsifier> pruner_of(const GoldenCase& golden, bool prune_bias = true) {
  const SparsityDefaults defaults{.sparsity_level = golden.get<double>("level"), .prune_bias = prune_bias};
  const auto kind = golden.get<std::string>("pruner");
  if (kind == "saliency") {
    return std::make_unique<SaliencyPruner>(defaults);
  }
  if (kind == "lstm_saliency") {
    return std::make_unique<LSTMSaliencyPruner>(defaults);
  }
  return std::make_unique<FPGMPruner>(defaults, kind == "fpgm_1" ? 1 : 2);
}

std::vector<SparsityConfig> config_of(const GoldenCase& golden) {
  std::vector<SparsityConfig> config;
  for (const auto& entry : golden.arguments.at("config")) {
    config.push_back({.tensor_fqn = entry.at("tensor_fqn")});
    if (entry.contains("prune_bias")) {
      config.back().prune_bias = entry.at("prune_bias").get<bool>();
    }
  }
  return config;
}

void expect_same_masks(const BaseStructuredSparsifier& sparsifier, const GoldenCase& golden) {
  for (const auto& group : sparsifier.groups()) {
    EXPECT_TENSORS_EQUAL(sparsifier.mask(group.tensor_fqn), golden.tensor("masks." + group.tensor_fqn));
  }
}

void expect_same_state(const torch::nn::Module& model, const StateDict& expected) {
  const auto state = state_dict(model);
  EXPECT_THAT(state.keys(), ::testing::UnorderedElementsAreArray(expected.keys()));
  for (const auto& entry : state) {
    SCOPED_TRACE(entry.key());
    ASSERT_TRUE(expected.contains(entry.key()));
    EXPECT_TENSORS_CLOSE(entry.value(), expected[entry.key()]);
  }
}

/// Sums of some hundred products of size ten in a different order, since channels are missing.
void expect_close_outputs(const at::Tensor& actual, const at::Tensor& expected) {
  EXPECT_TRUE(testing::tensors_close_to_largest(actual, expected, 1e-6));
}

/// The masked output's channels that the last layer keeps.
at::Tensor kept_outputs(const at::Tensor& masked_output, const GoldenCase& golden) {
  const auto last = std::to_string(golden.arguments.at("layers").size() - 1);
  const auto mask = golden.tensor("masks." + last + ".weight");
  return mask.defined() ? masked_output.index_select(1, mask.nonzero().flatten()) : masked_output;
}

void check_sequential(const GoldenCase& golden) {
  const at::NoGradGuard no_grad;
  auto model = sequential_of(golden.arguments.at("layers"));
  load_state_dict(*model, under(golden, "weights."));
  const auto sparsifier = pruner_of(golden);
  sparsifier->prepare(model.ptr(), config_of(golden));
  sparsifier->step();
  expect_same_masks(*sparsifier, golden);
  const auto masked_output = model->forward(golden.tensor("input"));
  expect_close_outputs(masked_output, golden.tensor("masked_output"));

  sparsifier->prune();
  const auto output = model->forward(golden.tensor("input"));
  expect_close_outputs(output, kept_outputs(masked_output, golden));
  if (!golden.has("fault")) {
    expect_same_state(*model, under(golden, "pruned."));
    expect_close_outputs(output, golden.tensor("pruned_output"));
  }
}

class StructuredGoldenTest : public ::testing::TestWithParam<const char*> {};

TEST_P(StructuredGoldenTest, MasksPrunedWeightsAndOutputsAreThoseOfPython) {
  for (const auto& golden : golden_cases("pruning", GetParam())) {
    SCOPED_TRACE(golden.name);
    check_sequential(golden);
  }
}

INSTANTIATE_TEST_SUITE_P(Patterns, StructuredGoldenTest, ::testing::Values("linear", "conv2d", "activations"),
                         [](const auto& info) { return std::string(info.param); });

TEST(LSTMGoldenTest, MasksPrunedWeightsAndOutputsAreThoseOfPython) {
  const at::NoGradGuard no_grad;
  for (const auto& golden : golden_cases("pruning", "lstm")) {
    SCOPED_TRACE(golden.name);
    const auto& shape = golden.arguments.at("lstm");
    const bool with_norm = shape.at("norm");
    LSTMLinear model(5, 6, 4, shape.at("layers").get<int64_t>(), with_norm);
    load_state_dict(*model, under(golden, "weights."));
    // The reference leaves the biases of an LSTM alone.
    const auto sparsifier = pruner_of(golden, /*prune_bias=*/false);
    sparsifier->prepare(model.ptr(), config_of(golden));
    sparsifier->step();
    expect_same_masks(*sparsifier, golden);
    expect_close_outputs(model(golden.tensor("input")), golden.tensor("masked_output"));

    sparsifier->prune({with_norm ? Chain{"lstm", "norm", "linear"} : Chain{"lstm", "linear"}});
    expect_same_state(*model, under(golden, "pruned."));
    expect_close_outputs(model(golden.tensor("input")), golden.tensor("pruned_output"));
  }
}

}  // namespace
}  // namespace transformers
