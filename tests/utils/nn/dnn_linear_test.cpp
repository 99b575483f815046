#include "utils/nn/dnn_linear.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>
#include <transformers/utils/nn/autocast.h>
#include <transformers/utils/nn/linear.h>

#include "support/tensor_assertions.h"
#include "utils/nn/onednn_ops.h"

namespace transformers::testing {
namespace {

struct Product {
  at::Tensor input, weight, bias;
};

Product product(bool with_bias = true) {
  at::manual_seed(2);
  const auto leaf = [](at::IntArrayRef sizes) { return at::randn(sizes).requires_grad_(); };
  return {leaf({3, 70, 96}), leaf({400, 96}), with_bias ? leaf({400}) : at::Tensor()};
}

class DnnLinearTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!linear_pointwise()) {
      GTEST_SKIP() << "this LibTorch has no oneDNN";
    }
  }
};

TEST_F(DnnLinearTest, OutputAndGradientsAreThoseOfLinear) {
  for (const bool with_bias : {true, false}) {
    const auto found = product(with_bias), expected = product(with_bias);
    const auto output = dnn_linear(found.input, found.weight, found.bias);
    const auto plain = at::linear(expected.input, expected.weight, expected.bias);
    EXPECT_TRUE(tensors_close_to_largest(output.detach(), plain.detach(), 1e-6));
    const auto weights = at::randn_like(plain.detach());
    (output * weights).sum().backward();
    (plain * weights).sum().backward();
    EXPECT_TRUE(tensors_close_to_largest(found.input.grad(), expected.input.grad(), 1e-6));
    EXPECT_TRUE(tensors_close_to_largest(found.weight.grad(), expected.weight.grad(), 1e-6));
    if (with_bias) {
      EXPECT_TRUE(tensors_close_to_largest(found.bias.grad(), expected.bias.grad(), 1e-6));
    }
  }
}

TEST_F(DnnLinearTest, WhatIsFrozenGetsNoGradient) {
  auto p = product();
  p.weight.set_requires_grad(false);
  dnn_linear(p.input, p.weight, p.bias).sum().backward();
  EXPECT_TRUE(p.input.grad().defined());
  EXPECT_FALSE(p.weight.grad().defined());
  EXPECT_TRUE(p.bias.grad().defined());
}

TEST_F(DnnLinearTest, GradientsOfGradientsAreThoseOfLinear) {
  const auto penalty = [](const Product& p, const at::Tensor& output) {
    const auto gradients = torch::autograd::grad({output.pow(2).sum()}, {p.input}, {}, true, /*create_graph=*/true);
    return torch::autograd::grad({gradients[0].pow(2).sum()}, {p.weight})[0];
  };
  const auto p = product();
  EXPECT_TRUE(tensors_close_to_largest(penalty(p, dnn_linear(p.input, p.weight, p.bias)),
                                       penalty(p, at::linear(p.input, p.weight, p.bias)), 1e-5));
}

TEST_F(DnnLinearTest, IsForLargeFloatProductsOutsideOfAutocast) {
  const auto p = product();
  EXPECT_FALSE(dnn_linear_is_faster(p.input.narrow(1, 0, 2), p.weight));
  EXPECT_FALSE(dnn_linear_is_faster(p.input, p.weight.narrow(0, 0, 10)));
  EXPECT_FALSE(dnn_linear_is_faster(p.input.to(at::kBFloat16), p.weight.to(at::kBFloat16)));
  const AutocastGuard autocast(c10::kCPU, at::kBFloat16);
  EXPECT_FALSE(dnn_linear_is_faster(p.input, p.weight));
}

TEST_F(DnnLinearTest, EvalModeKeepsLibTorchsBits) {
  const auto p = product();
  Linear layer(p.weight, p.bias);
  layer->eval();
  EXPECT_TENSORS_EQUAL(layer(p.input).detach(), at::linear(p.input, p.weight, p.bias).detach());
}

}  // namespace
}  // namespace transformers::testing
