#include <ATen/ATen.h>
#include <torch/nn/modules/linear.h>
#include <transformers/utils/optim/exponential_moving_average.h>

#include "support/golden_collection.h"
#include "support/tensor_assertions.h"

namespace transformers::testing {
namespace {

void set_parameters(torch::nn::Linear& layer, const GoldenCase& c, int step) {
  const at::NoGradGuard no_grad;
  for (auto& item : layer->named_parameters()) {
    item.value().copy_(c.tensor("parameter." + std::to_string(step) + "." + item.key()));
  }
}

TEST(ExponentialMovingAverageTest, EveryUpdateGivesPythonsAverages) {
  const auto cases = golden_cases("training", "averages");
  ASSERT_EQ(cases.size(), 3U);
  for (const auto& c : cases) {
    SCOPED_TRACE(c.name);
    torch::nn::Linear layer(3, 4);
    ExponentialMovingAverage average(*layer, c.get<double>("decay"));
    for (int step = 0; step < 5; ++step) {
      set_parameters(layer, c, step);
      average.update();
      const auto own = layer->weight.detach().clone();
      {
        const AveragedWeights swapped(average);
        EXPECT_TENSORS_CLOSE(layer->weight, c.tensor("average." + std::to_string(step) + ".weight"));
        EXPECT_TENSORS_CLOSE(layer->bias, c.tensor("average." + std::to_string(step) + ".bias"));
      }
      EXPECT_TENSORS_EQUAL(layer->weight, own);
    }
    EXPECT_EQ(average.n_averaged(), 5);
  }
}

TEST(ExponentialMovingAverageTest, ASavedAverageGoesOnBitForBit) {
  const auto c = golden_cases("training", "averages").front();
  torch::nn::Linear layer(3, 4);
  ExponentialMovingAverage straight(*layer, 0.9);
  auto resumed = std::make_unique<ExponentialMovingAverage>(*layer, 0.9);
  for (int step = 0; step < 5; ++step) {
    if (step == 2) {
      const auto saved = resumed->state_dict();
      resumed = std::make_unique<ExponentialMovingAverage>(*layer, 0.9);
      resumed->load_state_dict(saved);
    }
    set_parameters(layer, c, step);
    straight.update();
    resumed->update();
  }
  const auto expected = straight.state_dict();
  for (const auto& item : resumed->state_dict()) {
    EXPECT_TENSORS_EQUAL(item.value(), expected[item.key()]);
  }
}

TEST(ExponentialMovingAverageTest, LowPrecisionIsAveragedInFp32) {
  torch::nn::Linear layer(2, 2);
  layer->to(at::kBFloat16);
  ExponentialMovingAverage average(*layer, 0.999);
  const at::NoGradGuard no_grad;
  layer->weight.fill_(1);
  average.update();
  layer->weight.fill_(2);
  average.update();  // 1.001, which bf16 has not
  EXPECT_TENSORS_CLOSE(average.state_dict()["average.weight"], at::full({2, 2}, 1.001));
  const AveragedWeights swapped(average);
  EXPECT_TENSORS_EQUAL(layer->weight, at::ones({2, 2}, at::kBFloat16));
}

TEST(ExponentialMovingAverageTest, FrozenParametersAreLeftOut) {
  torch::nn::Linear layer(2, 2);
  layer->bias.set_requires_grad(false);
  EXPECT_EQ(ExponentialMovingAverage(*layer).state_dict().size(), 2U);  // the weight and the count
  layer->weight.set_requires_grad(false);
  EXPECT_ERROR(std::make_unique<ExponentialMovingAverage>(*layer), "trainable");
}

TEST(ExponentialMovingAverageTest, WhatDoesNotFitIsRefused) {
  torch::nn::Linear layer(2, 2), other(3, 2), without_bias(torch::nn::LinearOptions(2, 2).bias(false));
  EXPECT_ERROR(ExponentialMovingAverage(*layer, 1.5), "decay", "1.5");
  ExponentialMovingAverage average(*layer);
  EXPECT_ERROR(average.load_state_dict(ExponentialMovingAverage(*other).state_dict()), "weight", "[2, 2]", "[2, 3]");
  EXPECT_ERROR(average.load_state_dict(ExponentialMovingAverage(*without_bias).state_dict()), "2 averages", "1");
}

}  // namespace
}  // namespace transformers::testing
