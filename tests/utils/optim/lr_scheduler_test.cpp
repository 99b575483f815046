#include <ATen/ATen.h>
#include <torch/optim/sgd.h>
#include <transformers/utils/optim/lr_scheduler.h>

#include "support/golden_collection.h"
#include "support/tensor_assertions.h"

namespace transformers::testing {
namespace {

using torch::optim::OptimizerParamGroup;
using torch::optim::SGDOptions;

/// One parameter a group, the rates of scripts/goldens/training.py.
torch::optim::SGD two_groups() {
  std::vector<OptimizerParamGroup> groups;
  for (const auto rate : {5e-5, 1e-3}) {
    groups.emplace_back(std::vector<at::Tensor>{at::zeros({1})}, std::make_unique<SGDOptions>(rate));
  }
  return torch::optim::SGD(groups, SGDOptions(5e-5));
}

Ramp ramp(const GoldenCase& c, const char* name, Ramp otherwise) {
  const auto& options = c.arguments.at("options");
  if (!options.contains(name)) {
    return otherwise;
  }
  const auto text = options.at(name).get<std::string>();
  return text == "linear" ? Ramp::kLinear : text == "cosine" ? Ramp::kCosine : Ramp::kOneMinusSqrt;
}

void read_metric_options(const nlohmann::json& options, MetricOptions& metric) {
  metric.maximize = options.value("mode", "min") == "max";
  metric.factor = options.value("factor", metric.factor);
  metric.patience = options.value("patience", metric.patience);
  metric.threshold = options.value("threshold", metric.threshold);
  metric.relative_threshold = options.value("threshold_mode", metric.relative_threshold ? "rel" : "abs") == "rel";
  metric.cooldown = options.value("cooldown", metric.cooldown);
  metric.min_lr = options.value("min_lr", metric.min_lr);
}

SchedulerOptions options_of(const GoldenCase& c) {
  const auto& given = c.arguments.at("options");
  const auto read = [&given](const char* name, auto& field) {
    if (given.contains(name)) {
      field = given.at(name).get<typename std::decay_t<decltype(field)>::value_type>();
    }
  };
  SchedulerOptions options{.num_warmup_steps = c.get<int64_t>("num_warmup_steps"),
                           .num_training_steps = c.optional<int64_t>("num_training_steps")};
  read("num_cycles", options.num_cycles);
  read("timescale", options.timescale);
  read("min_lr", options.min_lr);
  read("min_lr_rate", options.min_lr_rate);
  read("warmup_lr_rate", options.warmup_lr_rate);
  read("num_decay_steps", options.num_decay_steps);
  read("num_stable_steps", options.num_stable_steps);
  options.lr_end = given.value("lr_end", options.lr_end);
  options.power = given.value("power", options.power);
  options.min_lr_ratio = given.value("min_lr_ratio", options.min_lr_ratio);
  options.warmup_type = ramp(c, "warmup_type", options.warmup_type);
  options.decay_type = ramp(c, "decay_type", options.decay_type);
  read_metric_options(given, options.plateau);
  read_metric_options(given, options.greedy.metric);
  options.greedy.warmup = given.value("warmup", options.greedy.warmup);
  options.greedy.max_lr = given.value("max_lr", options.greedy.max_lr);
  options.greedy.smooth = given.value("smooth", options.greedy.smooth);
  options.greedy.window_size = given.value("window_size", options.greedy.window_size);
  options.greedy.reset_start = given.value("reset_start", options.greedy.reset_start);
  return options;
}

/// The rates of each group from before the first step on; `at_step` may put another scheduler in the place of one.
template <typename AtStep>
at::Tensor run(const GoldenCase& c, const AtStep& at_step) {
  auto optimizer = two_groups();
  const auto type = scheduler_type_from_name(c.get<std::string>("type"));
  auto scheduler = get_scheduler(type, optimizer, options_of(c));
  const auto metrics = c.tensor("metrics");
  std::vector<at::Tensor> rates{at::tensor(scheduler->get_last_lr(), at::kDouble)};
  for (int64_t step = 0; step < metrics.numel(); ++step) {
    at_step(step, optimizer, scheduler);
    scheduler->step(scheduler->follows_metric() ? std::optional(metrics[step].item<double>()) : std::nullopt);
    rates.push_back(at::tensor(scheduler->get_last_lr(), at::kDouble));
  }
  return at::stack(rates);
}

TEST(LRSchedulerTest, EveryScheduleGivesPythonsRates) {
  const auto cases = golden_cases("training", "schedules");
  ASSERT_GE(cases.size(), 25U);
  for (const auto& c : cases) {
    SCOPED_TRACE(c.name);
    const auto rates = run(c, [](auto&&...) {});
    EXPECT_TENSORS_CLOSE(rates, c.tensor("rates"), {.relative = 1e-12, .absolute = 1e-18});
  }
}

TEST(LRSchedulerTest, ASavedScheduleContinuesAsIfNeverStopped) {
  for (const auto& c : golden_cases("training", "schedules")) {
    SCOPED_TRACE(c.name);
    const auto stop_at_17 = [&c](int64_t step, torch::optim::Optimizer& optimizer, auto& scheduler) {
      if (step == 17) {
        const auto state = scheduler->state_dict();
        for (auto& group : optimizer.param_groups()) {
          group.options().set_lr(0.5);
        }
        scheduler = get_scheduler(scheduler_type_from_name(c.get<std::string>("type")), optimizer, options_of(c));
        scheduler->load_state_dict(state);
      }
    };
    EXPECT_TENSORS_EQUAL(run(c, stop_at_17), run(c, [](auto&&...) {}));
  }
}

TEST(LRSchedulerTest, WhatAScheduleNeedsIsAskedForByName) {
  auto optimizer = two_groups();
  const auto make = [&](SchedulerType type, SchedulerOptions options = {}) { get_scheduler(type, optimizer, options); };
  EXPECT_ERROR(scheduler_type_from_name("linaer"), "linaer", "linear", "greedy");
  EXPECT_ERROR(make(SchedulerType::kLinear), "linear", "num_training_steps");
  EXPECT_ERROR(make(SchedulerType::kConstant, {.num_warmup_steps = -1}), "num_warmup_steps", "-1");
  EXPECT_ERROR(make(SchedulerType::kWarmupStableDecay, {.num_training_steps = 9}), "num_decay_steps");
  EXPECT_ERROR(make(SchedulerType::kCosineWithMinLr, {.num_training_steps = 9}), "min_lr", "min_lr_rate");
  EXPECT_ERROR(make(SchedulerType::kPolynomial, {.num_training_steps = 9, .lr_end = 1}), "lr_end", "1");
  EXPECT_ERROR(make(SchedulerType::kReduceOnPlateau, {.plateau = {.factor = 1}}), "factor", "1");
  EXPECT_ERROR(get_scheduler(SchedulerType::kGreedy, optimizer)->step(), "greedy", "metric");
}

TEST(LRSchedulerTest, AStateOfAnotherOptimizerIsRefused) {
  auto optimizer = two_groups();
  const auto scheduler = get_scheduler(SchedulerType::kConstant, optimizer);
  EXPECT_ERROR(scheduler->load_state_dict(StateDict()), "base_lrs", "missing");
  StateDict state;
  state.insert("base_lrs", at::tensor({1.0}, at::kDouble));
  EXPECT_ERROR(scheduler->load_state_dict(state), "base_lrs", "2", "[1]");
}

}  // namespace
}  // namespace transformers::testing
