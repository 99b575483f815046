#include <torch/torch.h>
#include <transformers/utils/pruning/wanda.h>

#include "support/tensor_assertions.h"
#include "utils/pruning/tensors.h"

namespace transformers {
namespace {

using testing::ramp;

at::Tensor mask_of(const torch::nn::Module& module) { return module.named_buffers()["weight_mask"]; }

TEST(InputNormTest, IsTheNormOverAllTokensOfAllBatches) {
  torch::manual_seed(1);
  const auto first = at::randn({2, 3, 4}), second = at::randn({5, 4});
  InputNorm norm;
  norm.add(first);
  norm.add(second);
  EXPECT_TENSORS_CLOSE(norm.value(), at::cat({first.reshape({-1, 4}), second}).norm(2, 0));
}

TEST(InputNormTest, RefusesOtherFeaturesAndNoInputs) {
  InputNorm norm;
  EXPECT_ERROR(norm.value(), "no calibration inputs");
  norm.add(at::ones({2, 4}));
  EXPECT_ERROR(norm.add(at::ones({2, 5})), "4", "5");
  EXPECT_ERROR(norm.add(at::ones({2, 4}, at::kLong)), "floating");
}

TEST(InputNormObserverTest, SeesCallsOfALinearWhileItLives) {
  Linear layer(4, 2);
  const auto input = ramp({3, 4});
  {
    const InputNormObserver observer(layer.ptr());
    const auto plain = layer->forward(input);
    EXPECT_TENSORS_EQUAL(layer(input), plain);
    EXPECT_TENSORS_CLOSE(observer.norm().value(), input.norm(2, 0));
  }
  EXPECT_FALSE(layer->has_forward_hooks());
}

// The rows and norms of the example are small enough to order by hand: scores 2 3 8 1 and 12 2 4 3.
TEST(WandaTest, PrunesEachRowByWeightTimesInputNorm) {
  torch::nn::Linear layer(torch::nn::LinearOptions(4, 2).bias(false));
  layer->weight.set_data(at::tensor({2.F, -3.F, 4.F, 1.F, -12.F, 2.F, 2.F, 3.F}).reshape({2, 4}));
  const auto norm = at::tensor({1.F, 1.F, 2.F, 1.F});
  EXPECT_TENSORS_EQUAL(wanda_scores(layer->weight, norm),
                       at::tensor({2.F, 3.F, 8.F, 1.F, 12.F, 2.F, 4.F, 3.F}).reshape({2, 4}));
  prune::wanda(*layer, "weight", norm, 0.5);
  EXPECT_TENSORS_EQUAL(mask_of(*layer), at::tensor({0.F, 1.F, 1.F, 0.F, 1.F, 0.F, 1.F, 0.F}).reshape({2, 4}));
}

TEST(WandaTest, CutsFractionsDownwardAndCountsWhatWasPruned) {
  torch::nn::Linear layer(torch::nn::LinearOptions(4, 1).bias(false));
  layer->weight.set_data(ramp({1, 4}));
  prune::wanda(*layer, "weight", at::ones({4}), 0.45);
  EXPECT_TENSORS_EQUAL(mask_of(*layer), at::tensor({0.F, 1.F, 1.F, 1.F}).reshape({1, 4}));
  prune::wanda(*layer, "weight", at::ones({4}), 2);
  EXPECT_TENSORS_EQUAL(mask_of(*layer), at::tensor({0.F, 0.F, 1.F, 1.F}).reshape({1, 4}));
}

TEST(WandaTest, GivesScoresForTwoOfFour) {
  Linear layer(4, 1, /*bias=*/false);
  layer->weight.set_data(ramp({1, 4}));
  prune::semi_structured(*layer, "weight", 2, 4, wanda_scores(layer->weight, at::tensor({9.F, 8.F, 1.F, 1.F})));
  EXPECT_TENSORS_EQUAL(mask_of(*layer), at::tensor({1.F, 1.F, 0.F, 0.F}).reshape({1, 4}));
}

TEST(WandaTest, RefusesNormsOfAnotherSize) {
  Linear layer(4, 2);
  EXPECT_ERROR(prune::wanda(*layer, "weight", at::ones({3}), 0.5), "[4]", "[3]");
  EXPECT_ERROR(prune::wanda(*layer, "bias", at::ones({4}), 0.5), "[out_features, in_features]");
  EXPECT_ERROR(prune::wanda(*layer, "wight", at::ones({4}), 0.5), "wight");
  EXPECT_ERROR(prune::wanda(*layer, "weight", at::ones({4}), 5), "5", "4");
}

}  // namespace
}  // namespace transformers
