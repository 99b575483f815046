#include <torch/torch.h>
#include <transformers/utils/nn/linear.h>
#include <transformers/utils/pruning/parametrization.h>

#include "support/tensor_assertions.h"
#include "utils/pruning/tensors.h"

namespace transformers {
namespace {

using testing::bools;
using testing::ramp;

torch::nn::Linear linear_of(const at::Tensor& weight) {
  torch::nn::Linear layer(torch::nn::LinearOptions(weight.size(1), weight.size(0)).bias(false));
  layer->weight.set_data(weight.clone());
  return layer;
}

at::Tensor checkerboard() { return bools({1, 0, 1, 0, 1, 0}).reshape({2, 3}); }

TEST(ParameterMaskTest, HidesEntriesAndKeepsTheTensorObject) {
  auto layer = linear_of(ramp({2, 3}));
  const auto* identity = layer->weight.unsafeGetTensorImpl();
  const ParameterMask mask(layer->weight, checkerboard());
  EXPECT_TENSORS_EQUAL(layer->weight.detach(), at::tensor({1.F, 0.F, 3.F, 0.F, 5.F, 0.F}).reshape({2, 3}));
  EXPECT_TENSORS_EQUAL(mask.hidden(), at::tensor({0.F, 2.F, 0.F, 4.F, 0.F, 6.F}).reshape({2, 3}));
  EXPECT_TENSORS_EQUAL(mask.original(), ramp({2, 3}));
  EXPECT_EQ(layer->named_parameters()["weight"].unsafeGetTensorImpl(), identity);
  EXPECT_EQ(layer->named_parameters().size(), 1U);
}

TEST(ParameterMaskTest, IsFoundOnTheParameterWhenTheHandleIsGone) {
  auto layer = linear_of(ramp({2, 3}));
  EXPECT_FALSE(ParameterMask::on(layer->weight));
  EXPECT_FALSE(ParameterMask::on(at::Tensor()));
  { const ParameterMask mask(layer->weight, checkerboard()); }
  const auto found = ParameterMask::on(layer->weight);
  ASSERT_TRUE(found);
  EXPECT_TENSORS_EQUAL(found->mask(), checkerboard());
}

TEST(ParameterMaskTest, GivesTheGradientsOfMaskTimesWeight) {
  const auto input = ramp({4, 3});
  auto layer = linear_of(ramp({2, 3}));
  const ParameterMask mask(layer->weight, checkerboard());
  layer->forward(input).square().sum().backward();

  const auto original = ramp({2, 3}).requires_grad_();
  at::linear(input, original * checkerboard()).square().sum().backward();
  EXPECT_TENSORS_CLOSE(layer->weight.grad(), original.grad());
}

TEST(ParameterMaskTest, HidesGradientsThatWereThereBefore) {
  auto layer = linear_of(ramp({2, 3}));
  layer->forward(ramp({1, 3})).sum().backward();
  const ParameterMask mask(layer->weight, checkerboard());
  EXPECT_TENSORS_EQUAL(layer->weight.grad().ne(0), checkerboard());
}

TEST(ParameterMaskTest, LeavesOtherHooksInPlaceAndWorksAfterThem) {
  auto layer = linear_of(ramp({2, 3}));
  int calls = 0;
  layer->weight.register_hook([&](const at::Tensor&) { ++calls; });
  ParameterMask mask(layer->weight, checkerboard());
  layer->weight.register_hook([&](const at::Tensor&) { ++calls; });
  layer->forward(ramp({1, 3})).sum().backward();
  EXPECT_EQ(calls, 2);
  EXPECT_TENSORS_EQUAL(layer->weight.grad().ne(0), checkerboard());

  mask.remove();
  layer->zero_grad();
  layer->forward(ramp({1, 3})).sum().backward();
  EXPECT_EQ(calls, 4);
  EXPECT_TRUE(layer->weight.grad().ne(0).all().item<bool>());
}

TEST(ParameterMaskTest, GivesValuesBackThatANewMaskShows) {
  auto layer = linear_of(ramp({2, 3}));
  ParameterMask mask(layer->weight, checkerboard());
  mask.set(checkerboard().logical_not());
  EXPECT_TENSORS_EQUAL(layer->weight.detach(), ramp({2, 3}) * checkerboard().logical_not());
  mask.set(at::ones({2, 3}, at::kBool));
  EXPECT_TENSORS_EQUAL(layer->weight.detach(), ramp({2, 3}));
}

TEST(ParameterMaskTest, KeepsWhatTrainingDidToShownEntries) {
  auto layer = linear_of(ramp({2, 3}));
  ParameterMask mask(layer->weight, checkerboard());
  {
    const at::NoGradGuard no_grad;
    layer->weight.mul_(10);
  }
  mask.lift();
  EXPECT_TENSORS_EQUAL(layer->weight.detach(), at::tensor({10.F, 2.F, 30.F, 4.F, 50.F, 6.F}).reshape({2, 3}));
  EXPECT_FALSE(ParameterMask::on(layer->weight));
}

TEST(ParameterMaskTest, AppliesAgainAfterSomethingWroteToTheParameter) {
  auto layer = linear_of(ramp({2, 3}));
  ParameterMask mask(layer->weight, checkerboard());
  {
    const at::NoGradGuard no_grad;
    layer->weight.fill_(7);
  }
  mask.apply();
  EXPECT_TENSORS_EQUAL(layer->weight.detach(), 7 * checkerboard().to(at::kFloat));
}

TEST(ParameterMaskTest, ReplacesInfinitiesByZero) {
  auto layer = linear_of(at::full({1, 2}, std::numeric_limits<float>::infinity()));
  const ParameterMask mask(layer->weight, at::zeros({1, 2}));
  EXPECT_TENSORS_EQUAL(layer->weight.detach(), at::zeros({1, 2}));
}

TEST(ParameterMaskTest, BroadcastsAMaskOfRows) {
  auto layer = linear_of(ramp({2, 3}));
  const ParameterMask mask(layer->weight, bools({0, 1}).reshape({2, 1}));
  EXPECT_TENSORS_EQUAL(layer->weight.detach(), at::tensor({0.F, 0.F, 0.F, 4.F, 5.F, 6.F}).reshape({2, 3}));
}

TEST(ParameterMaskTest, FollowsACastOfTheModule) {
  Linear layer(3, 2, /*bias=*/false);
  const auto original = layer->weight.detach().clone();
  ParameterMask mask(layer->weight, checkerboard());
  layer->to(at::kDouble);
  layer->forward(ramp({1, 3}).to(at::kDouble)).sum().backward();
  EXPECT_TENSORS_EQUAL(layer->weight.grad().ne(0), checkerboard());
  mask.lift();
  EXPECT_TENSORS_EQUAL(layer->weight.detach(), original.to(at::kDouble));
}

TEST(ParameterMaskTest, MasksAFrozenParameterThatIsThawedLater) {
  auto layer = linear_of(ramp({2, 3}));
  layer->weight.requires_grad_(false);
  const ParameterMask mask(layer->weight, checkerboard());
  layer->weight.requires_grad_(true);
  layer->forward(ramp({1, 3})).sum().backward();
  EXPECT_TENSORS_EQUAL(layer->weight.grad().ne(0), checkerboard());
}

TEST(ParameterMaskTest, MasksAWeightInsideAnLSTM) {
  torch::manual_seed(3);
  torch::nn::LSTM lstm(torch::nn::LSTMOptions(3, 2));
  const auto keep = bools({1, 0, 1, 1, 0, 1, 1, 1}).reshape({8, 1});
  const auto input = ramp({4, 1, 3});
  const auto weight = lstm->named_parameters()["weight_hh_l0"];
  const auto hidden_weight = weight.detach().clone();
  const ParameterMask mask(weight, keep);
  const auto masked = std::get<0>(lstm->forward(input));
  masked.sum().backward();
  EXPECT_TENSORS_EQUAL(weight.grad().ne(0).any(1, true).logical_or(keep), keep);

  torch::nn::LSTM zeroed(torch::nn::LSTMOptions(3, 2));
  const at::NoGradGuard no_grad;
  for (auto& entry : zeroed->named_parameters()) {
    entry.value().copy_(entry.key() == "weight_hh_l0" ? hidden_weight * keep : lstm->named_parameters()[entry.key()]);
  }
  EXPECT_TENSORS_CLOSE(masked.detach(), std::get<0>(zeroed->forward(input)));
}

TEST(ParameterMaskTest, RefusesWhatIsNoMaskOrNoParameter) {
  auto layer = linear_of(ramp({2, 3}));
  EXPECT_ERROR(ParameterMask(layer->weight, at::ones({2})), "[2, 3]", "[2]");
  EXPECT_ERROR(ParameterMask(layer->weight, at::ones({3, 3})), "[2, 3]", "[3, 3]");
  EXPECT_ERROR(ParameterMask(layer->weight, at::full({2, 3}, 0.5)), "0 and 1");
  EXPECT_ERROR(ParameterMask(layer->weight, at::Tensor()), "[2, 3]");
  EXPECT_ERROR(ParameterMask(layer->weight * 2, checkerboard()), "leaf");
  EXPECT_ERROR(ParameterMask(at::ones({2, 3}, at::kLong), checkerboard()), "floating");
  EXPECT_TENSORS_EQUAL(layer->weight.detach(), ramp({2, 3}));

  ParameterMask mask(layer->weight, checkerboard());
  EXPECT_ERROR(ParameterMask(layer->weight, checkerboard()), "already");
  EXPECT_ERROR(mask.set(at::ones({2, 1})), "[2, 3]", "[2, 1]");
  EXPECT_ERROR(mask.set_hidden(at::ones({3})), "[2, 3]", "[3]");
}

TEST(NarrowParameterTest, NarrowsValuesMaskAndWhatIsHidden) {
  auto layer = linear_of(ramp({2, 3}));
  const auto* identity = layer->weight.unsafeGetTensorImpl();
  ParameterMask mask(layer->weight, checkerboard());
  const auto columns = at::tensor({1, 2}, at::kLong);
  narrow_parameter(layer->weight, [&](const at::Tensor& tensor) { return tensor.index_select(1, columns); });
  EXPECT_EQ(layer->named_parameters()["weight"].unsafeGetTensorImpl(), identity);
  EXPECT_TENSORS_EQUAL(layer->weight.detach(), at::tensor({0.F, 3.F, 5.F, 0.F}).reshape({2, 2}));
  EXPECT_TENSORS_EQUAL(mask.mask(), bools({0, 1, 1, 0}).reshape({2, 2}));
  mask.lift();
  EXPECT_TENSORS_EQUAL(layer->weight.detach(), at::tensor({2.F, 3.F, 5.F, 6.F}).reshape({2, 2}));
}

TEST(NarrowParameterTest, LeavesAMaskOfRowsWhenColumnsGo) {
  auto layer = linear_of(ramp({2, 3}));
  ParameterMask mask(layer->weight, bools({0, 1}).reshape({2, 1}));
  narrow_parameter(layer->weight, [](const at::Tensor& tensor) { return tensor.narrow(1, 0, 2); });
  EXPECT_TENSORS_EQUAL(mask.mask(), bools({0, 1}).reshape({2, 1}));
  EXPECT_TENSORS_EQUAL(layer->weight.detach(), at::tensor({0.F, 0.F, 4.F, 5.F}).reshape({2, 2}));
}

TEST(NarrowParameterTest, TrainsOnWhileAnOldGraphIsStillAlive) {
  auto layer = linear_of(ramp({2, 3}));
  const auto old_loss = layer->forward(ramp({1, 3})).sum();
  old_loss.backward();
  narrow_parameter(layer->weight, [](const at::Tensor& tensor) { return tensor.narrow(0, 0, 1); });
  EXPECT_FALSE(layer->weight.grad().defined());
  layer->forward(ramp({1, 3})).sum().backward();
  EXPECT_TENSORS_EQUAL(layer->weight.grad(), ramp({1, 3}));
}

}  // namespace
}  // namespace transformers
