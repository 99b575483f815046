#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/container/sequential.h>
#include <transformers/utils/nn/construction.h>
#include <transformers/utils/nn/linear.h>
#include <transformers/utils/nn/state_dict.h>

#include "support/tensor_assertions.h"

namespace transformers {
namespace {

torch::nn::Sequential sample() { return torch::nn::Sequential(torch::nn::Linear(3, 2), torch::nn::BatchNorm1d(2)); }

TEST(StateDictTest, ListsParametersThenBuffersModuleByModule) {
  const std::vector<std::string> expected{
      "0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var", "1.num_batches_tracked"};
  EXPECT_EQ(state_dict(*sample()).keys(), expected);
}

TEST(StateDictTest, CopiesValuesAndKeepsTheTensors) {
  auto source = sample();
  auto target = sample();
  const auto weight = target->ptr<torch::nn::LinearImpl>(0)->weight;
  EXPECT_TRUE(load_state_dict(*target, state_dict(*source)).empty());
  EXPECT_TENSORS_EQUAL(weight, (source->ptr<torch::nn::LinearImpl>(0)->weight));
  EXPECT_TRUE(weight.requires_grad());
}

TEST(StateDictTest, OneErrorNamesEverythingAndNothingChanges) {
  auto target = sample();
  const auto before = target->ptr<torch::nn::LinearImpl>(0)->weight.clone();
  StateDict state;
  state.insert("0.weight", torch::zeros({3, 3}));
  state.insert("0.bias", torch::zeros({2}));
  state.insert("extra", torch::zeros({1}));
  EXPECT_ERROR(load_state_dict(*target, state), "missing: 1.weight, 1.bias", "unexpected: extra",
               "0.weight (found [3, 3], expected [2, 3])");
  EXPECT_TENSORS_EQUAL((target->ptr<torch::nn::LinearImpl>(0)->weight), before);
}

TEST(StateDictTest, NotStrictReportsAndLoadsTheRest) {
  auto target = sample();
  StateDict state;
  state.insert("0.bias", torch::full({2}, 7.0));
  state.insert("extra", torch::zeros({1}));
  const auto keys = load_state_dict(*target, state, {.strict = false});
  EXPECT_EQ(keys.unexpected, std::vector<std::string>{"extra"});
  EXPECT_EQ(keys.missing.size(), 6);
  EXPECT_TENSORS_EQUAL((target->ptr<torch::nn::LinearImpl>(0)->bias.detach()), torch::full({2}, 7.0));
}

TEST(StateDictTest, AssigningFillsAMetaModuleWithoutCopying) {
  std::shared_ptr<LinearImpl> layer;
  {
    const ConstructionGuard guard({.device = torch::kMeta});
    layer = std::make_shared<LinearImpl>(2, 2, /*bias=*/false);
  }
  StateDict state;
  state.insert("weight", torch::eye(2, torch::kBFloat16));
  EXPECT_ERROR(load_state_dict(*layer, state), "weight", "meta");
  load_state_dict(*layer, state, {.assign = true});
  EXPECT_EQ(layer->weight.data_ptr(), state["weight"].data_ptr());
  EXPECT_TRUE(layer->weight.is_same(layer->named_parameters()["weight"]));
  EXPECT_TRUE(layer->weight.requires_grad());
  const auto input = torch::randn({1, 2}, torch::kBFloat16);
  EXPECT_TENSORS_EQUAL(layer->forward(input).detach(), input);
  layer->forward(input).sum().backward();
  EXPECT_TRUE(layer->weight.grad().defined());
}

}  // namespace
}  // namespace transformers
