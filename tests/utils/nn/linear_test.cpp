#include <torch/nn/functional/linear.h>
#include <torch/nn/modules/activation.h>
#include <torch/nn/modules/container/sequential.h>
#include <transformers/utils/nn/linear.h>

#include "support/tensor_assertions.h"

namespace transformers {
namespace {

class Doubled : public LinearMethod {
 public:
  torch::Tensor forward(const LinearImpl& linear, const torch::Tensor& input) const override {
    return torch::nn::functional::linear(input, linear.weight, linear.bias) * 2;
  }
};

TEST(LinearTest, IsATorchLinearWithTheSameNumbers) {
  Linear layer(4, 3);
  const auto input = torch::randn({2, 5, 4});
  const auto expected = torch::nn::functional::linear(input, layer->weight, layer->bias);
  EXPECT_TENSORS_EQUAL(layer(input), expected);
  EXPECT_NE(dynamic_cast<torch::nn::LinearImpl*>(layer.get()), nullptr);
  EXPECT_EQ(layer->options.in_features(), 4);
  EXPECT_EQ(layer->options.out_features(), 3);
}

TEST(LinearTest, RegisteredParametersAreTheMembers) {
  Linear layer(4, 3);
  const auto parameters = layer->named_parameters();
  ASSERT_EQ(parameters.size(), 2);
  EXPECT_TRUE(parameters["weight"].is_same(layer->weight));
  EXPECT_TRUE(parameters["bias"].is_same(layer->bias));
  EXPECT_EQ(Linear(4, 3, false)->named_parameters().size(), 1);
}

TEST(LinearTest, TheMethodIsExchangedInPlace) {
  Linear layer(4, 3);
  const auto input = torch::randn({2, 4});
  const auto plain = layer(input);
  layer->set_method(std::make_shared<Doubled>());
  EXPECT_TENSORS_EQUAL(layer(input), plain * 2);
  EXPECT_EQ(layer->named_parameters().keys(), (std::vector<std::string>{"weight", "bias"}));
  layer->set_method(nullptr);
  EXPECT_TENSORS_EQUAL(layer(input), plain);
}

TEST(LinearTest, NewParametersChangeTheShape) {
  Linear layer(4, 3);
  layer->set_parameters(torch::ones({2, 4}), torch::zeros({2}));
  EXPECT_TENSORS_EQUAL(layer(torch::ones({1, 4})).detach(), torch::full({1, 2}, 4.0));
  EXPECT_EQ(layer->options.out_features(), 2);
  EXPECT_TRUE(layer->weight.requires_grad());
  EXPECT_ERROR(layer->set_parameters(torch::ones({2, 4}), torch::zeros({3})), "bias", "[2]", "[3]");
}

TEST(LinearTest, CloneKeepsTypeValuesAndOwnsItsMemory) {
  Linear layer(4, 3);
  layer->bias.set_requires_grad(false);
  const auto copy = std::dynamic_pointer_cast<LinearImpl>(layer->clone());
  ASSERT_NE(copy, nullptr);
  EXPECT_TENSORS_EQUAL(copy->weight, layer->weight);
  EXPECT_NE(copy->weight.data_ptr(), layer->weight.data_ptr());
  EXPECT_FALSE(copy->bias.requires_grad());
}

TEST(LinearTest, CloneHasTheMethodAndTheHooks) {
  Linear layer(4, 3);
  layer->set_method(std::make_shared<Doubled>());
  layer->register_forward_hook([](const at::Tensor&, const at::Tensor& output) { return output + 1; });
  const Linear copy(std::dynamic_pointer_cast<LinearImpl>(layer->clone()));
  const auto input = torch::randn({2, 4});
  EXPECT_TENSORS_EQUAL(copy(input), layer(input));
}

TEST(LinearTest, StandsInATorchSequential) {
  Linear first(4, 3), second(3, 2);
  torch::nn::Sequential both(first, torch::nn::ReLU(), second);
  const auto input = torch::randn({2, 4});
  EXPECT_TENSORS_EQUAL(both->forward(input), second(torch::relu(first(input))));
  const auto copy = std::dynamic_pointer_cast<torch::nn::SequentialImpl>(both->clone());
  EXPECT_TENSORS_EQUAL(copy->forward(input), both->forward(input));
  EXPECT_NE(copy->parameters()[0].data_ptr(), first->weight.data_ptr());
}

}  // namespace
}  // namespace transformers
