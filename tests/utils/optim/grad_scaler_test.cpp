#include <ATen/ATen.h>
#include <torch/optim/sgd.h>
#include <transformers/utils/optim/grad_scaler.h>

#include <limits>

#include "support/tensor_assertions.h"

namespace transformers::testing {
namespace {

constexpr auto kInfinity = std::numeric_limits<float>::infinity();

struct ScaledRun {
  at::Tensor parameter = at::ones({2}).requires_grad_();
  torch::optim::SGD optimizer{std::vector<at::Tensor>{parameter}, torch::optim::SGDOptions(1)};
  GradScaler scaler{{.init_scale = 8, .growth_interval = 2}};

  /// A loss whose gradient is `grad`.
  bool step(float grad) {
    optimizer.zero_grad();
    scaler.scale((parameter * grad).sum()).backward();
    const bool stepped = scaler.step(optimizer);
    scaler.update();
    return stepped;
  }
};

TEST(GradScalerTest, StepsAreThoseOfTheUnscaledLoss) {
  ScaledRun run;
  EXPECT_TRUE(run.step(0.25));
  EXPECT_TENSORS_EQUAL(run.parameter, at::full({2}, 0.75F));
}

TEST(GradScalerTest, AnInfiniteGradientLeavesTheStepOutAndHalvesTheScale) {
  ScaledRun run;
  EXPECT_FALSE(run.step(kInfinity));
  EXPECT_TENSORS_EQUAL(run.parameter, at::ones({2}));
  EXPECT_EQ(run.scaler.get_scale(), 4);
}

TEST(GradScalerTest, TheScaleDoublesAfterEnoughGoodSteps) {
  ScaledRun run;
  run.step(0);
  EXPECT_EQ(run.scaler.get_scale(), 8);
  run.step(0);
  EXPECT_EQ(run.scaler.get_scale(), 16);
  run.step(0);
  run.step(kInfinity);
  EXPECT_EQ(run.scaler.get_scale(), 8);
}

TEST(GradScalerTest, UnscaledGradientsCanBeSeenOnceAStep) {
  ScaledRun run;
  run.scaler.scale((run.parameter * 3).sum()).backward();
  EXPECT_TENSORS_EQUAL(run.parameter.grad(), at::full({2}, 24.0F));
  run.scaler.unscale_(run.optimizer);
  EXPECT_TENSORS_EQUAL(run.parameter.grad(), at::full({2}, 3.0F));
  EXPECT_ERROR(run.scaler.unscale_(run.optimizer), "already");
  EXPECT_TRUE(run.scaler.step(run.optimizer));
  EXPECT_TENSORS_EQUAL(run.parameter, at::full({2}, -2.0F));
  run.scaler.update();
  EXPECT_ERROR(run.scaler.update(), "after step()");
}

TEST(GradScalerTest, ASavedScalerContinues) {
  ScaledRun run, resumed;
  run.step(0);
  resumed.scaler.load_state_dict(run.scaler.state_dict());
  run.step(0);
  resumed.step(0);
  EXPECT_EQ(resumed.scaler.get_scale(), 16);
  EXPECT_ERROR(resumed.scaler.load_state_dict(StateDict()), "scale", "missing");
}

TEST(GradScalerTest, OptionsThatCannotBeAreRefused) {
  EXPECT_ERROR(GradScaler({.growth_factor = 1}), "growth_factor", "1");
  EXPECT_ERROR(GradScaler({.backoff_factor = 1}), "backoff_factor", "1");
  EXPECT_ERROR(GradScaler({.init_scale = 0}), "init_scale", "0");
}

}  // namespace
}  // namespace transformers::testing
