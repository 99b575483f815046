#include "utils/nn/internal/matmul.h"

#include <ATen/ATen.h>
#include <c10/util/ScopeExit.h>
#include <torch/csrc/autograd/autograd.h>
#include <transformers/utils/nn/autocast.h>
#include <transformers/utils/nn/kernels.h>
#include <transformers/utils/nn/linear.h>

#include "support/tensor_assertions.h"
#include "utils/nn/kernel_matmul.h"

namespace transformers::testing {
namespace {

using kernels::Level;

constexpr c10::ScalarType kDtypes[] = {at::kFloat, at::kBFloat16, at::kHalf};

/// Half a unit in the last place of the result, and the order of sums.
double tolerance(c10::ScalarType dtype) {
  return 2e-6 + (dtype == at::kFloat ? 0 : dtype == at::kBFloat16 ? 1.0 / 256 : 1.0 / 2048);
}

at::Tensor draw(at::IntArrayRef sizes, c10::ScalarType dtype) { return at::randn(sizes).to(dtype); }

struct Operands {
  at::Tensor input, weight, bias;

  Operands(at::IntArrayRef input_sizes, int64_t out, c10::ScalarType dtype, bool with_bias = true) {
    at::manual_seed(2);
    input = draw(input_sizes, dtype).requires_grad_();
    weight = draw({out, input_sizes.back()}, dtype).requires_grad_();
    bias = with_bias ? draw({out}, dtype).requires_grad_() : at::Tensor();
  }

  /// The same numbers in float32.
  Operands in_float() const {
    auto copy = *this;
    for (auto* tensor : {&copy.input, &copy.weight, &copy.bias}) {
      *tensor = tensor->defined()
                    ? tensor->detach().to(at::kFloat, /*non_blocking=*/false, /*copy=*/true).requires_grad_()
                    : at::Tensor();
    }
    return copy;
  }

  at::Tensor linear(bool training = false) const { return functional::linear(input, weight, bias, training); }
};

void expect_close(const at::Tensor& found, const at::Tensor& expected) {
  EXPECT_TRUE(
      tensors_close_to_largest(found.detach().to(at::kFloat), expected.detach(), tolerance(found.scalar_type())))
      << found.scalar_type() << ' ' << found.sizes();
}

MatmulChoice choice(const MatmulMachine& machine, c10::ScalarType dtype, int64_t rows, bool by_columns = true) {
  return matmul_choice(machine, {dtype, rows, 2048, 512, by_columns});
}

constexpr MatmulMachine kWithoutAvx512{Level::kAvx2, false, false}, kWithBFloat16{Level::kAvx512, true, false};

/// Also where the environment switches kernels off.
class MatmulChoiceTest : public ::testing::Test {
 protected:
  void SetUp() override { set_kernels(true); }
  void TearDown() override { set_kernels(were_on_); }

 private:
  const bool were_on_ = kernels::enabled();
};

TEST_F(MatmulChoiceTest, WithoutAvx512BFloat16IsAlwaysTheKernels) {
  for (const auto level : {Level::kBaseline, Level::kAvx2}) {
    for (const bool dnn_has_bfloat16 : {false, true}) {  // the level is a test's or the user's cap
      const MatmulMachine machine{level, dnn_has_bfloat16, false};
      EXPECT_EQ(choice(machine, at::kBFloat16, 1), MatmulChoice::kFewRows);
      EXPECT_EQ(choice(machine, at::kBFloat16, 15), MatmulChoice::kFewRows);
      EXPECT_EQ(choice(machine, at::kBFloat16, 512), MatmulChoice::kManyRows);
      EXPECT_EQ(choice(machine, at::kBFloat16, 4, /*by_columns=*/false), MatmulChoice::kManyRows);
    }
  }
}

TEST_F(MatmulChoiceTest, WithBFloat16InstructionsManyRowsAreOneDnns) {
  EXPECT_EQ(choice(kWithBFloat16, at::kBFloat16, 1), MatmulChoice::kFewRows);
  EXPECT_EQ(choice(kWithBFloat16, at::kBFloat16, 8), MatmulChoice::kFewRows);
  EXPECT_EQ(choice(kWithBFloat16, at::kBFloat16, 16), MatmulChoice::kLibTorch);
  EXPECT_EQ(choice(kWithBFloat16, at::kHalf, 512), MatmulChoice::kManyRows);
  EXPECT_EQ(choice({Level::kAvx512, true, true}, at::kHalf, 512), MatmulChoice::kLibTorch);
}

TEST_F(MatmulChoiceTest, FloatIsTheKernelsForFewRows) {
  EXPECT_EQ(choice(kWithoutAvx512, at::kFloat, 2), MatmulChoice::kFewRows);
  EXPECT_EQ(choice(kWithoutAvx512, at::kFloat, 16), MatmulChoice::kFewRows);
  EXPECT_EQ(choice(kWithoutAvx512, at::kFloat, 17), MatmulChoice::kLibTorch);
  EXPECT_EQ(choice(kWithoutAvx512, at::kFloat, 4, /*by_columns=*/false), MatmulChoice::kLibTorch);
  EXPECT_EQ(choice({Level::kBaseline, false, false}, at::kFloat, 4), MatmulChoice::kLibTorch);
}

TEST_F(MatmulChoiceTest, OtherDtypesAndSmallWeightsAreLibTorchs) {
  EXPECT_EQ(choice(kWithoutAvx512, at::kDouble, 4), MatmulChoice::kLibTorch);
  EXPECT_EQ(matmul_choice(kWithoutAvx512, {at::kBFloat16, 4, 64, 64, true}), MatmulChoice::kLibTorch);
}

TEST_F(MatmulChoiceTest, SwitchedOffEverythingIsLibTorchs) {
  set_kernels(false);
  EXPECT_STREQ(kernels_in_use(), "libtorch");
  for (const auto dtype : kDtypes) {
    EXPECT_EQ(choice(kWithoutAvx512, dtype, 1), MatmulChoice::kLibTorch);
    EXPECT_EQ(choice(kWithoutAvx512, dtype, 512), MatmulChoice::kLibTorch);
    const Operands p({3, 256}, 200, dtype);
    EXPECT_TENSORS_EQUAL(p.linear().detach(), at::linear(p.input, p.weight, p.bias).detach());
  }
}

TEST(KernelMatmulTest, BothKernelsGiveTheProductOfAnyStridesAndThreads) {
  const auto threads = at::get_num_threads();
  const auto restore = c10::make_scope_exit([threads] { at::set_num_threads(threads); });
  for (const auto dtype : kDtypes) {
    const auto weight = draw({300, 210}, dtype).narrow(1, 3, 203), bias = draw({300}, dtype);
    for (const int64_t rows : {1, 5, 16, 70}) {
      const auto left = draw({203, rows}, dtype).t();
      const auto expected = at::linear(left.to(at::kFloat), weight.to(at::kFloat), bias.to(at::kFloat));
      for (const auto way : {MatmulChoice::kFewRows, MatmulChoice::kManyRows}) {
        at::set_num_threads(1);
        const auto found = kernel_matmul(way, left, weight.t(), bias);
        expect_close(found, expected);
        for (const int count : {2, 3, 7}) {
          at::set_num_threads(count);
          EXPECT_TENSORS_EQUAL(kernel_matmul(way, left, weight.t(), bias), found);
        }
      }
    }
  }
}

TEST(KernelMatmulTest, ManyRowsOfFewColumnsAreSplitByRows) {
  const auto threads = at::get_num_threads();
  const auto restore = c10::make_scope_exit([threads] { at::set_num_threads(threads); });
  const auto left = draw({500, 90}, at::kBFloat16), right = draw({90, 20}, at::kBFloat16);
  at::set_num_threads(1);
  const auto found = kernel_matmul(MatmulChoice::kManyRows, left, right, {});
  expect_close(found, at::mm(left.to(at::kFloat), right.to(at::kFloat)));
  at::set_num_threads(5);
  EXPECT_TENSORS_EQUAL(kernel_matmul(MatmulChoice::kManyRows, left, right, {}), found);
}

TEST(FunctionalLinearTest, OutputAndGradientsAreThoseOfLinearInFloat) {
  for (const auto dtype : kDtypes) {
    for (const int64_t rows : {1, 3, 7, 60}) {
      for (const bool with_bias : {true, false}) {
        const Operands found({2, rows, 130}, 300, dtype, with_bias);
        const auto expected = found.in_float();
        const auto output = found.linear(), plain = at::linear(expected.input, expected.weight, expected.bias);
        expect_close(output, plain);
        const auto weights = draw(plain.sizes(), dtype);
        output.backward(weights);
        plain.backward(weights.to(at::kFloat));
        expect_close(found.input.grad(), expected.input.grad());
        expect_close(found.weight.grad(), expected.weight.grad());
        if (with_bias) {
          // LibTorch adds up a bias's gradient.
          EXPECT_TRUE(tensors_close_to_largest(found.bias.grad().to(at::kFloat), expected.bias.grad(), 1e-2));
        }
      }
    }
  }
}

TEST(FunctionalLinearTest, WhatIsFrozenGetsNoGradient) {
  for (const bool input_is_frozen : {true, false}) {
    Operands p({3, 256}, 200, at::kHalf);
    (input_is_frozen ? p.input : p.weight).set_requires_grad(false);
    p.linear(/*training=*/true).sum().backward();
    EXPECT_EQ(p.input.grad().defined(), !input_is_frozen);
    EXPECT_EQ(p.weight.grad().defined(), input_is_frozen);
    EXPECT_TRUE(p.bias.grad().defined());
  }
}

TEST(FunctionalLinearTest, GradientsOfGradientsAreThoseOfLinear) {
  const auto penalty = [](const Operands& p, const at::Tensor& output) {
    const auto gradients = torch::autograd::grad({output.pow(2).sum()}, {p.input}, {}, true, /*create_graph=*/true);
    return torch::autograd::grad({gradients[0].pow(2).sum()}, {p.weight})[0];
  };
  const Operands p({4, 256}, 200, at::kFloat);
  EXPECT_TRUE(
      tensors_close_to_largest(penalty(p, p.linear()), penalty(p, at::linear(p.input, p.weight, p.bias)), 1e-5));
}

TEST(FunctionalLinearTest, AutocastCastsAsItDoesForLinear) {
  const Operands p({3, 256}, 200, at::kFloat);
  for (const auto dtype : {at::kBFloat16, at::kHalf}) {
    const AutocastGuard autocast(c10::kCPU, dtype);
    const auto found = p.linear(), expected = at::linear(p.input, p.weight, p.bias);
    EXPECT_EQ(found.scalar_type(), dtype);
    EXPECT_TRUE(tensors_close_to_largest(found.detach(), expected.detach(), tolerance(dtype)));
    found.sum().backward();
    EXPECT_EQ(p.weight.grad().scalar_type(), at::kFloat);
  }
}

TEST(FunctionalLinearTest, WhatDoesNotFitHasLibTorchsErrors) {
  const Operands p({3, 256}, 200, at::kBFloat16);
  EXPECT_ERROR(functional::linear(p.input.narrow(1, 0, 255), p.weight, p.bias, false), "shapes");
  EXPECT_ERROR(functional::linear(p.input.to(at::kFloat), p.weight, p.bias, false), "same dtype");
  EXPECT_EQ(functional::linear(p.input.narrow(0, 0, 0), p.weight, p.bias, false).sizes(), (at::IntArrayRef{0, 200}));
}

TEST(FunctionalLinearTest, MmIsMm) {
  for (const auto dtype : kDtypes) {
    const auto left = draw({40, 300}, dtype), right = draw({300, 130}, dtype);
    expect_close(functional::mm(left, right), at::mm(left.to(at::kFloat), right.to(at::kFloat)));
  }
}

}  // namespace
}  // namespace transformers::testing
