#include "utils/modeling/internal/functional.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>
#include <transformers/utils/modeling/activations.h>
#include <transformers/utils/modeling/losses.h>
#include <transformers/utils/modeling/rope.h>

#include <functional>
#include <limits>
#include <utility>

#include "support/tensor_assertions.h"
#include "support/tiny_models.h"

namespace transformers::testing {
namespace {

using Tensors = std::vector<at::Tensor>;
using Op = std::function<at::Tensor(const Tensors&)>;

/// An operation and the steps of LibTorch's that it stands for. Inputs beyond `leaves` have no gradient.
struct Pair {
  const char* name;
  std::function<at::Tensor(const Tensors&, bool training)> operation;
  Op composed;
  std::vector<std::vector<int64_t>> shapes;
  size_t leaves;

  /// As training runs it.
  Op kernel() const {
    return [operation = operation](const Tensors& in) { return operation(in, true); };
  }
};

at::Tensor rms_norm_steps(const Tensors& in) { return in[1] * at::rms_norm(in[0], in[1].sizes(), {}, 1e-5); }

at::Tensor gelu_new_steps(const Tensors& in) {
  ActivationFunction act(Activation::kGeluNew);
  act->eval();
  return act(in[0]);
}

at::Tensor halves_steps(const Tensors& in) {
  return in[0] * in[1].unsqueeze(1) + rotate_half(in[0]) * in[2].unsqueeze(1);
}

at::Tensor interleaved_steps(const Tensors& in) {
  const auto pairs = [](const at::Tensor& table) { return table.unsqueeze(2).repeat_interleave(2, 3); };
  const auto part = in[0].narrow(-1, 0, 6);
  return at::cat({part * pairs(in[1]) + rotate_every_two(part) * pairs(in[2]), in[0].narrow(-1, 6, 4)}, -1);
}

std::vector<Pair> pairs() {
  return {
      {"rms_norm",
       [](const Tensors& in, bool training) { return functional::rms_norm(in[0], in[1], 1e-5, training); },
       rms_norm_steps,
       {{2, 5, 37}, {37}},
       2},
      {"silu_and_mul",
       [](const Tensors& in, bool training) { return functional::silu_and_mul(in[0], in[1], training); },
       [](const Tensors& in) { return at::silu(in[0]) * in[1]; },
       {{3, 7, 19}, {3, 7, 19}},
       2},
      {"gelu_new",
       [](const Tensors& in, bool training) { return functional::gelu_new(in[0], training); },
       gelu_new_steps,
       {{4, 5, 21}},
       1},
      {"rotate_halves",
       [](const Tensors& in, bool training) { return functional::rotate_halves(in[0], in[1], in[2], training); },
       halves_steps,
       {{2, 3, 5, 38}, {2, 5, 38}, {2, 5, 38}},
       1},
      {"rotate_halves of one table",
       [](const Tensors& in, bool training) { return functional::rotate_halves(in[0], in[1], in[2], training); },
       halves_steps,
       {{2, 3, 5, 8}, {1, 5, 8}, {1, 5, 8}},
       1},
      {"rotate_interleaved",
       [](const Tensors& in, bool training) { return functional::rotate_interleaved(in[0], in[1], in[2], training); },
       interleaved_steps,
       {{2, 5, 3, 10}, {2, 5, 3}, {2, 5, 3}},
       1},
  };
}

Tensors inputs(const Pair& pair, at::ScalarType dtype) {
  at::manual_seed(3);
  Tensors result;
  for (size_t i = 0; i < pair.shapes.size(); ++i) {
    result.push_back(at::randn(pair.shapes[i]).mul(2).to(dtype).requires_grad_(i < pair.leaves));
  }
  return result;
}

Tensors leaves(const Tensors& in, const Pair& pair) {
  return {in.begin(), in.begin() + static_cast<int64_t>(pair.leaves)};
}

/// Output, then the gradients of a weighted sum of it.
Tensors output_and_gradients(const Op& op, const Tensors& in, const Pair& pair) {
  const auto output = op(in);
  const auto weights = at::linspace(-1, 2, output.numel(), output.options()).view_as(output);
  auto result = torch::autograd::grad({(output * weights).sum()}, leaves(in, pair));
  result.insert(result.begin(), output.detach());
  return result;
}

TEST(FunctionalTest, OutputsAndGradientsAreThoseOfTheSteps) {
  for (const auto& pair : pairs()) {
    const auto in = inputs(pair, at::kFloat);
    const auto found = output_and_gradients(pair.kernel(), in, pair);
    const auto expected = output_and_gradients(pair.composed, in, pair);
    for (size_t i = 0; i < expected.size(); ++i) {
      SCOPED_TRACE(std::string(pair.name) + (i == 0 ? ", output" : ", gradient " + std::to_string(i)));
      EXPECT_TRUE(tensors_close_to_largest(found[i], expected[i], 1e-6));
    }
  }
}

TEST(FunctionalTest, BFloat16RoundsWhereTheStepsRound) {
  for (const auto& pair : pairs()) {
    const auto in = inputs(pair, at::kBFloat16);
    const auto found = output_and_gradients(pair.kernel(), in, pair);
    const auto expected = output_and_gradients(pair.composed, in, pair);
    for (size_t i = 0; i < expected.size(); ++i) {
      SCOPED_TRACE(std::string(pair.name) + (i == 0 ? ", output" : ", gradient " + std::to_string(i)));
      EXPECT_TRUE(tensors_close_to_largest(found[i], expected[i], i == 0 ? 4e-3 : 1.6e-2));
    }
    const auto differing = found[0].ne(expected[0]).sum().item<int64_t>();
    EXPECT_LE(differing, found[0].numel() / 100) << pair.name << ": roundings that differ";
  }
}

TEST(FunctionalTest, RotationsAreBitEqual) {
  for (const auto& pair : pairs()) {
    if (std::string(pair.name).starts_with("rotate")) {
      const auto in = inputs(pair, at::kBFloat16);
      SCOPED_TRACE(pair.name);
      EXPECT_TENSORS_EQUAL(pair.kernel()(in), pair.composed(in));
    }
  }
}

TEST(FunctionalTest, OutsideTrainingTheBitsAreThoseOfTheSteps) {
  const at::NoGradGuard no_grad;
  for (const auto dtype : {at::kFloat, at::kBFloat16, at::kHalf}) {
    for (const auto& pair : pairs()) {
      SCOPED_TRACE(pair.name);
      const auto in = inputs(pair, dtype);
      EXPECT_TENSORS_EQUAL(pair.operation(in, false), pair.composed(in));
    }
  }
}

TEST(FunctionalTest, AGateOfAnotherOwnerIsNotOverwritten) {
  const at::NoGradGuard no_grad;
  auto gate = at::randn({3, 5});
  const auto up = at::randn({3, 5}), kept = gate.clone(), expected = at::silu(gate) * up;
  EXPECT_TENSORS_EQUAL(functional::silu_and_mul(gate, up, false), expected);
  EXPECT_TENSORS_EQUAL(gate, kept);
  const auto* memory = gate.const_data_ptr();
  const auto output = functional::silu_and_mul(std::move(gate), up, false);
  EXPECT_TENSORS_EQUAL(output, expected);
  EXPECT_EQ(output.const_data_ptr(), memory);
}

TEST(FunctionalTest, TransposedInputsGiveTheSame) {
  for (const auto& pair : pairs()) {
    SCOPED_TRACE(pair.name);
    auto in = inputs(pair, at::kFloat);
    const auto expected = output_and_gradients(pair.kernel(), in, pair);
    for (auto& tensor : in) {
      if (tensor.dim() > 2) {
        const auto last = tensor.dim() - 1;
        tensor =
            tensor.detach().transpose(0, last).contiguous().transpose(0, last).requires_grad_(tensor.requires_grad());
      }
    }
    const auto found = output_and_gradients(pair.kernel(), in, pair);
    for (size_t i = 0; i < expected.size(); ++i) {
      EXPECT_TENSORS_CLOSE(found[i], expected[i]);
    }
  }
}

TEST(FunctionalTest, GradientsOfGradientsAreThoseOfTheSteps) {
  const auto second = [](const Op& op, const Tensors& in, const Pair& pair) {
    const auto output = op(in);
    // Squared, so that the gradient itself depends on the output's gradient.
    const auto first =
        torch::autograd::grad({(output * output).sum()}, leaves(in, pair), {}, true, /*create_graph=*/true);
    auto total = at::zeros({});
    for (const auto& gradient : first) {
      total = total + (gradient * gradient).sum();
    }
    return torch::autograd::grad({total}, leaves(in, pair));
  };
  for (const auto& pair : pairs()) {
    const auto in = inputs(pair, at::kFloat);
    const auto found = second(pair.kernel(), in, pair), expected = second(pair.composed, in, pair);
    for (size_t i = 0; i < expected.size(); ++i) {
      SCOPED_TRACE(std::string(pair.name) + ", input " + std::to_string(i));
      EXPECT_TRUE(tensors_close_to_largest(found[i], expected[i], 1e-5));
    }
  }
}

TEST(FunctionalTest, LargeSmallAndUndefinedNumbersAreThoseOfTheSteps) {
  constexpr auto kNaN = std::numeric_limits<float>::quiet_NaN();
  const auto x = at::tensor({-1e4F, -100.0F, -88.0F, -1e-30F, 0.0F, 1e-30F, 5.0F, 88.0F, 100.0F, 1e4F, kNaN});
  const auto ones = at::ones_like(x);
  const auto equal = [](const at::Tensor& found, const at::Tensor& expected) {
    return at::allclose(found, expected, 1e-6, 1e-30, /*equal_nan=*/true);
  };
  EXPECT_TRUE(equal(functional::silu_and_mul(x, ones, true), at::silu(x)));
  EXPECT_TRUE(equal(functional::gelu_new(x, true), gelu_new_steps({x})));
  const auto zeros = at::zeros({2, 8});
  EXPECT_TENSORS_EQUAL(functional::rms_norm(zeros, at::ones({8}), 1e-5, true), zeros);
  EXPECT_TRUE(functional::rms_norm(x.unsqueeze(0), ones, 1e-5, true).isnan().all().item<bool>());
}

TEST(FunctionalTest, CrossEntropyLeavesTheGradientInTheLogits) {
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    for (const double smoothing : {0.0, 0.1}) {
      SCOPED_TRACE(std::string(c10::toString(dtype)) + ", smoothing " + std::to_string(smoothing));
      at::manual_seed(1);
      auto logits = at::randn({5, 53}).mul(4).to(dtype);
      const auto labels = at::tensor({3, -100, 0, 52, 17}, at::kLong);
      const auto leaf = logits.to(at::kFloat).requires_grad_();
      const auto expected = at::cross_entropy_loss(leaf, labels, {}, at::Reduction::None, kIgnoreIndex, smoothing);
      (expected.sum() * 0.25).backward();
      EXPECT_TENSORS_CLOSE(functional::cross_entropy_(logits, labels, smoothing, at::scalar_tensor(0.25)),
                           expected.detach());
      EXPECT_TRUE(tensors_close_to_largest(logits, leaf.grad().to(dtype), dtype == at::kFloat ? 1e-6 : 4e-3));
    }
  }
}

TEST(FunctionalTest, CrossEntropyOfUndefinedScoresIsUndefined) {
  auto logits = at::randn({2, 20});
  logits[1][7] = std::numeric_limits<float>::quiet_NaN();
  const auto losses = functional::cross_entropy_(logits, at::tensor({1, 2}, at::kLong), 0, at::ones({}));
  EXPECT_FALSE(losses[0].isnan().item<bool>());
  EXPECT_TRUE(losses[1].isnan().item<bool>());
}

TEST(FunctionalTest, ALabelOutsideTheClassesIsNamed) {
  auto logits = at::randn({2, 20});
  EXPECT_ERROR(functional::cross_entropy_(logits, at::tensor({1, 20}, at::kLong), 0, at::ones({})), "[0, 20)",
               "from 1 to 20");
}

TEST(FunctionalTest, SumsTakeAddendsOfBothTypes) {
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    auto sum = at::randn({37, 1001});
    const auto addend = at::randn({37, 1001}).to(dtype);
    const auto expected = sum + addend;
    functional::add_(sum, addend);
    EXPECT_TRUE(sum.equal(expected)) << dtype;
  }
}

TEST(FunctionalTest, AModelInTrainingHasTheLossAndGradientsOfEvalMode) {
  for (const auto& [name, config] : config_grid()) {
    SCOPED_TRACE(name);
    const auto training = tiny_model(*config), composed = tiny_model(*config);
    training->train();
    composed->eval();
    const auto ids = tiny_ids(2, 9);
    const auto loss = [&](CausalLM& model) { return model.forward({.input_ids = ids}, {.labels = ids}).loss; };
    const auto found = loss(*training), expected = loss(*composed);
    EXPECT_TENSORS_CLOSE(found, expected);
    found.backward();
    expected.backward();
    const auto parameters = composed->named_parameters();
    for (const auto& item : training->named_parameters()) {
      SCOPED_TRACE(item.key());
      EXPECT_TRUE(tensors_close_to_largest(item.value().grad(), parameters[item.key()].grad(), 1e-5));
    }
  }
}

}  // namespace
}  // namespace transformers::testing
