#include <ATen/ATen.h>
#include <transformers/utils/optim/adamw_8bit.h>

#include "support/golden_collection.h"
#include "support/tensor_assertions.h"

namespace transformers::testing {
namespace {

using torch::optim::AdamWOptions;

constexpr int kSteps = 4;

const GoldenCase& named(const std::vector<GoldenCase>& cases, const std::string& name) {
  return *std::find_if(cases.begin(), cases.end(), [&](const GoldenCase& c) { return c.name == name; });
}

/// The options of scripts/goldens/adamw_8bit.py.
AdamWOptions golden_options() { return AdamWOptions(1e-2).betas({0.9, 0.95}).weight_decay(0.1); }

void step(Optimizer& optimizer, at::Tensor& parameter, const GoldenCase& c, int step) {
  parameter.mutable_grad() = c.tensor("grad." + std::to_string(step)).clone();
  optimizer.step();
}

TEST(AdamW8bitTest, TheMapsAreThoseOfBitsandbytes) {
  const auto cases = golden_cases("training", "adamw_8bit");
  EXPECT_TENSORS_CLOSE(create_dynamic_map(true), named(cases, "maps").tensor("signed"));
  EXPECT_TENSORS_CLOSE(create_dynamic_map(false), named(cases, "maps").tensor("unsigned"));
}

TEST(AdamW8bitTest, ParametersAndBytesFollowPython) {
  const auto cases = golden_cases("training", "adamw_8bit");
  for (const auto* name : {"large", "small"}) {
    SCOPED_TRACE(name);
    const auto& c = named(cases, name);
    auto parameter = c.tensor("initial").clone().requires_grad_();
    AdamW8bit optimizer({parameter}, golden_options());
    for (int i = 0; i < kSteps; ++i) {
      step(optimizer, parameter, c, i);
    }
    EXPECT_TENSORS_CLOSE(parameter.detach(), c.tensor("final"));
    const auto state = optimizer.state_dict();
    for (const auto* part : {"state1", "state2", "absmax1", "absmax2", "exp_avg", "exp_avg_sq"}) {
      const auto expected = c.tensor(part);
      ASSERT_EQ(state.contains(std::string("0.") + part), expected.defined()) << part;
      if (expected.defined()) {
        EXPECT_TENSORS_CLOSE(state[std::string("0.") + part], expected);
      }
    }
  }
}

TEST(AdamW8bitTest, ASavedStateContinuesBitForBit) {
  const auto cases = golden_cases("training", "adamw_8bit");
  const auto& c = named(cases, "large");
  auto straight = c.tensor("initial").clone().requires_grad_(), resumed = c.tensor("initial").clone().requires_grad_();
  AdamW8bit first({straight}, golden_options());
  auto second = std::make_unique<AdamW8bit>(std::vector{resumed}, golden_options());
  for (int i = 0; i < kSteps; ++i) {
    if (i == 2) {
      const auto state = second->state_dict();
      second = std::make_unique<AdamW8bit>(std::vector{resumed}, golden_options());
      second->load_state_dict(state);
    }
    step(first, straight, c, i);
    step(*second, resumed, c, i);
  }
  EXPECT_TENSORS_EQUAL(resumed.detach(), straight.detach());
}

TEST(AdamW8bitTest, AParameterTakesTwoBytesAndItsShareOfTheScales) {
  constexpr int64_t kElements = int64_t{1} << 20;
  auto parameter = at::ones({kElements}).requires_grad_();
  AdamW8bit optimizer({parameter});
  parameter.mutable_grad() = at::ones({kElements});
  optimizer.step();
  size_t bytes = 0;
  for (const auto& item : optimizer.state_dict()) {
    bytes += item.value().nbytes();
  }
  EXPECT_EQ(bytes, 2 * kElements + 2 * 4 * (kElements / 256) + 4);  // two bytes, two scales, the step
}

TEST(AdamW8bitTest, ParametersBelow4096ElementsKeepFp32Averages) {
  auto small = at::ones({4095}).requires_grad_(), large = at::ones({4096}).requires_grad_();
  AdamW8bit optimizer({small, large});
  small.mutable_grad() = at::ones({4095});
  large.mutable_grad() = at::ones({4096});
  optimizer.step();
  const auto state = optimizer.state_dict();
  EXPECT_EQ(state["0.exp_avg"].scalar_type(), at::kFloat);
  EXPECT_EQ(state["1.state1"].scalar_type(), at::kByte);
  EXPECT_FALSE(state.contains("1.exp_avg"));
}

/// After one step of `Kind` from these values.
template <typename Kind>
at::Tensor stepped(const at::Tensor& values, const at::Tensor& grads) {
  auto parameter = values.detach().requires_grad_();
  Kind optimizer({parameter}, AdamWOptions(1e-2));
  parameter.mutable_grad() = grads;
  optimizer.step();
  return parameter.detach();
}

// The first step starts from averages of zero, which a byte holds exactly.
TEST(AdamW8bitTest, ManyPiecesTransposedWeightsAndBf16StepAsWholeFp32OnesDo) {
  at::manual_seed(3);
  const auto values = at::randn({1100, 500}).to(at::kBFloat16), grads = at::randn({1100, 500}).to(at::kBFloat16);
  const auto fp32 = values.to(at::kFloat), fp32_grads = grads.to(at::kFloat);
  const auto expected = stepped<AdamW>(fp32.clone(), fp32_grads);
  EXPECT_TENSORS_CLOSE(stepped<AdamW8bit>(fp32.t().contiguous().t(), fp32_grads), expected);
  EXPECT_TENSORS_CLOSE(stepped<AdamW8bit>(values.clone(), grads), expected.to(at::kBFloat16));
}

TEST(AdamW8bitTest, WhatCannotBeIsRefused) {
  auto parameter = at::ones({64, 64}).requires_grad_();
  const std::vector<torch::optim::OptimizerParamGroup> groups{torch::optim::OptimizerParamGroup({parameter})};
  EXPECT_ERROR(AdamW8bit(groups, AdamWOptions(1).amsgrad(true)), "AdamW8bit", "amsgrad");
  EXPECT_ERROR(AdamW8bit(groups, AdamWOptions(-1)), "AdamW8bit", "lr", "-1");
  AdamW8bit optimizer(groups);
  parameter.mutable_grad() = at::ones({64, 64});
  optimizer.step();
  const ParameterMask mask(parameter, at::ones({64, 64}));
  EXPECT_ERROR(clear_hidden_state(optimizer), "8-bit", "drop");
  StateDict state;
  state.insert("0.state1", at::zeros({32, 64}, at::kByte));
  EXPECT_ERROR(optimizer.load_state_dict(state), "0.state1", "[64, 64]", "[32, 64]");
  state["0.state1"] = at::zeros({64, 64});
  EXPECT_ERROR(optimizer.load_state_dict(state), "0.state1", "uint8", "Float");
  state["0.state1"] = at::zeros({64, 64}, at::kByte);
  state.insert("0.absmax1", at::zeros({15}));
  EXPECT_ERROR(optimizer.load_state_dict(state), "0.absmax1", "16 blocks", "[15]");
}

}  // namespace
}  // namespace transformers::testing
