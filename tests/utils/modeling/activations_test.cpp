#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>
#include <transformers/utils/configuration/configuration_utils.h>
#include <transformers/utils/modeling/activations.h>
#include <transformers/utils/nn/construction.h>

#include "support/golden_collection.h"
#include "support/tensor_assertions.h"

namespace transformers::testing {
namespace {

TEST(ActivationFunctionTest, OutputsAndGradientsEqualPython) {
  const Golden file(golden_path("functions", "activations"));
  for (const auto& c : golden_cases("functions", "activations")) {
    SCOPED_TRACE(c.name);
    const auto label = c.get<std::string>("dtype");
    const ConstructionGuard guard({.dtype = dtype_from_name(label)});
    ActivationFunction function(activation_from_name(c.get<std::string>("activation")));
    const auto input = file.tensor("input." + label).detach().requires_grad_();
    const auto output = function(input);
    EXPECT_TENSORS_CLOSE(output, c.tensor("output"));
    // The prelu and xielu of HF have parameters, but only the input's gradient is in the file.
    const auto gradient = torch::autograd::grad({output}, {input}, {file.tensor("upstream." + label)})[0];
    EXPECT_TENSORS_CLOSE(gradient, c.tensor("grad"));
  }
}

TEST(ActivationFunctionTest, KnowsEveryNameOfPython) {
  std::set<std::string> python;
  for (const auto& c : golden_cases("functions", "activations")) {
    python.insert(c.get<std::string>("activation"));
  }
  const auto names = activation_names();
  EXPECT_EQ(std::set<std::string>(names.begin(), names.end()), python);
}

TEST(ActivationFunctionTest, NamesComeBackAndSwishIsSilu) {
  for (const auto& name : activation_names()) {
    EXPECT_EQ(activation_name(activation_from_name(name)), name == "swish" ? "silu" : name);
  }
  EXPECT_ERROR(activation_from_name("gelu_old"), "unknown activation", "gelu_old", "gelu_new", "xielu");
}

TEST(ActivateAndMulTest, WithoutGradientsItTakesTheGatesMemoryAndGivesTheSameBits) {
  ActivationFunction silu(Activation::kSilu);
  silu->eval();
  const auto gate = at::randn({3, 17}).to(at::kBFloat16), up = at::randn({3, 17}).to(at::kBFloat16);
  const auto expected = activate_and_mul(silu, gate.clone(), up);
  const at::NoGradGuard no_grad;
  auto own = gate.clone();
  const auto* memory = own.const_data_ptr();
  const auto result = activate_and_mul(silu, std::move(own), up);
  EXPECT_TRUE(result.equal(expected));
  EXPECT_EQ(result.const_data_ptr(), memory);
}

TEST(ActivateAndMulTest, AGateThatSomebodyHoldsIsLeftAlone) {
  ActivationFunction silu(Activation::kSilu);
  silu->eval();
  const at::NoGradGuard no_grad;
  const auto gate = at::randn({3, 17}), up = at::randn({3, 17});
  const auto before = gate.clone();
  const auto result = activate_and_mul(silu, gate, up);
  EXPECT_TRUE(gate.equal(before));
  EXPECT_TRUE(result.equal(at::silu(before) * up));
  activate_and_mul(silu, gate.view({17, 3}), up.view({17, 3}));  // a view: its own handle, another's memory
  EXPECT_TRUE(gate.equal(before));
}

}  // namespace
}  // namespace transformers::testing
