#include <ATen/ATen.h>
#include <torch/nn/modules/linear.h>
#include <transformers/utils/nn/activation_checkpoint.h>
#include <transformers/utils/nn/autocast.h>

#include <vector>

#include "support/tensor_assertions.h"

namespace transformers::testing {
namespace {

struct Result {
  at::Tensor output, input_grad, weight_grad;
};

/// Two dropouts around a product, once plain, once checkpointed, from the same seed.
Result run(bool with_checkpoint, bool input_requires_grad = true) {
  at::manual_seed(3);
  torch::nn::Linear linear(8, 8);
  const auto input = at::randn({4, 8}).set_requires_grad(input_requires_grad);
  const auto block = [&linear](const at::Tensor& x) {
    return at::dropout(linear(at::dropout(x, 0.5, true)).tanh(), 0.5, true);
  };
  const auto output = with_checkpoint ? checkpoint(block, input) : block(input);
  (output * at::rand({4, 8})).sum().backward();
  return {output.detach(), input.grad(), linear->weight.grad()};
}

TEST(CheckpointTest, ValuesGradientsAndRandomNumbersAreThoseOfAPlainCall) {
  for (const bool input_requires_grad : {true, false}) {
    const auto plain = run(false, input_requires_grad), checkpointed = run(true, input_requires_grad);
    EXPECT_TENSORS_EQUAL(checkpointed.output, plain.output);
    EXPECT_TENSORS_EQUAL(checkpointed.weight_grad, plain.weight_grad);
    EXPECT_EQ(checkpointed.input_grad.defined(), input_requires_grad);
    if (input_requires_grad) {
      EXPECT_TENSORS_EQUAL(checkpointed.input_grad, plain.input_grad);
    }
  }
}

TEST(CheckpointTest, BackwardLeavesTheGeneratorWhereItWas) {
  at::manual_seed(3);
  const auto input = at::randn({4}).requires_grad_();
  const auto output = checkpoint([](const at::Tensor& x) { return at::dropout(x, 0.5, true); }, input);
  const auto state = at::globalContext().defaultGenerator(c10::kCPU).get_state();
  output.sum().backward();
  EXPECT_TENSORS_EQUAL(at::globalContext().defaultGenerator(c10::kCPU).get_state(), state);
}

TEST(CheckpointTest, TheBlockRunsOnceForwardAndOnceBackward) {
  int runs = 0;
  const auto block = [&runs](const at::Tensor& x) {
    ++runs;
    return x * x;
  };
  const auto input = at::ones({2}).requires_grad_();
  const auto output = checkpoint(block, checkpoint(block, input));
  EXPECT_EQ(runs, 2);
  output.sum().backward();
  EXPECT_EQ(runs, 4);
  EXPECT_TENSORS_EQUAL(input.grad(), at::full({2}, 4.0F));
  const at::NoGradGuard no_grad;
  checkpoint(block, input);
  EXPECT_EQ(runs, 5);
}

TEST(CheckpointTest, TheSecondRunHasTheAutocastOfTheFirst) {
  std::vector<at::ScalarType> dtypes;
  const auto weight = at::randn({4, 4}).requires_grad_();
  const auto block = [&](const at::Tensor& x) {
    const auto product = at::matmul(x, weight);
    dtypes.push_back(product.scalar_type());
    return product.to(at::kFloat);
  };
  at::Tensor output;
  {
    const AutocastGuard autocast(c10::kCPU, at::kBFloat16);
    output = checkpoint(block, at::randn({2, 4}));
  }
  output.sum().backward();
  EXPECT_EQ(dtypes, std::vector<at::ScalarType>(2, at::kBFloat16));
}

TEST(AutocastGuardTest, ProductsAreInItsDtypeAndNestedGuardsSwitchItOff) {
  const auto x = at::randn({2, 4}), w = at::randn({4, 4});
  const auto product = [&] { return at::matmul(x, w).scalar_type(); };
  EXPECT_EQ(product(), at::kFloat);
  {
    const AutocastGuard on(c10::kCPU, at::kBFloat16);
    EXPECT_EQ(product(), at::kBFloat16);
    {
      const AutocastGuard off(c10::kCPU, at::kBFloat16, false);
      EXPECT_EQ(product(), at::kFloat);
    }
    EXPECT_EQ(product(), at::kBFloat16);
  }
  EXPECT_EQ(product(), at::kFloat);
}

TEST(AutocastGuardTest, CastsAreNotKeptBeyondIt) {
  const auto x = at::ones({1, 2}), w = at::ones({2, 2}).requires_grad_();
  const auto product = [&] {
    const AutocastGuard on(c10::kCPU, at::kBFloat16);
    return at::matmul(x, w).detach().to(at::kFloat);
  };
  const auto before = product();
  {
    const at::NoGradGuard no_grad;
    w.mul_(3);
  }
  EXPECT_TENSORS_EQUAL(product(), before * 3);
}

}  // namespace
}  // namespace transformers::testing
