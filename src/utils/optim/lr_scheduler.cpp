// Learning rate schedulers: LambdaLR multiplies the initial rates by a factor of the step; ReduceLROnPlateau (torch
// 2.11.0) and GreedyLR (transformers 5.23.0) follow a metric. Their state is saved as float64 tensors, which keep every
// bit.
#include <transformers/utils/optim/lr_scheduler.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "utils/optim/internal/numbers.h"
#include "utils/text/named_values.h"

namespace transformers {
namespace {

constexpr std::array<NamedValue<SchedulerType>, 12> kNames{{
    {"linear", SchedulerType::kLinear},
    {"cosine", SchedulerType::kCosine},
    {"cosine_with_restarts", SchedulerType::kCosineWithRestarts},
    {"polynomial", SchedulerType::kPolynomial},
    {"constant", SchedulerType::kConstant},
    {"constant_with_warmup", SchedulerType::kConstantWithWarmup},
    {"inverse_sqrt", SchedulerType::kInverseSqrt},
    {"reduce_lr_on_plateau", SchedulerType::kReduceOnPlateau},
    {"cosine_with_min_lr", SchedulerType::kCosineWithMinLr},
    {"cosine_warmup_with_min_lr", SchedulerType::kCosineWarmupWithMinLr},
    {"warmup_stable_decay", SchedulerType::kWarmupStableDecay},
    {"greedy", SchedulerType::kGreedy},
}};

bool is_better(double metric, double best, const MetricOptions& options) {
  const auto margin = options.maximize ? options.threshold : -options.threshold;
  const auto bound = options.relative_threshold ? best * (1 + margin) : best + margin;
  return options.maximize ? metric > bound : metric < bound;
}

double worst(const MetricOptions& options) {
  constexpr auto kInfinity = std::numeric_limits<double>::infinity();
  return options.maximize ? -kInfinity : kInfinity;
}

double required(std::optional<double> metric, const char* scheduler) {
  TORCH_CHECK(metric, scheduler, ": step() needs the metric it follows");
  return *metric;
}

/// The rates of the groups times `factor`, but not below min_lr; a change of at most eps is ignored.
std::vector<double> reduced(std::vector<double> rates, const MetricOptions& options) {
  for (auto& rate : rates) {
    const auto lower = std::max(rate * options.factor, options.min_lr);
    rate = rate - lower > options.eps ? lower : rate;
  }
  return rates;
}

}  // namespace

SchedulerType scheduler_type_from_name(std::string_view name) { return value_of_name(kNames, "schedule", name); }

std::string scheduler_type_name(SchedulerType type) { return name_of_value(kNames, type); }

LRScheduler::LRScheduler(torch::optim::Optimizer& optimizer) : optimizer_(optimizer) {}

std::vector<double> LRScheduler::get_last_lr() const {
  std::vector<double> rates;
  for (const auto& group : optimizer_.param_groups()) {
    rates.push_back((group.has_options() ? group.options() : optimizer_.defaults()).get_lr());
  }
  return rates;
}

void LRScheduler::set_lr(const std::vector<double>& rates) {
  auto& groups = optimizer_.param_groups();
  for (size_t i = 0; i < groups.size(); ++i) {
    groups[i].options().set_lr(rates[i]);
  }
}

LambdaLR::LambdaLR(torch::optim::Optimizer& optimizer, Factor factor)
    : LRScheduler(optimizer), factor_(std::move(factor)), base_lrs_(get_last_lr()) {
  apply();
}

void LambdaLR::step(std::optional<double>) {
  ++last_epoch_;
  apply();
}

void LambdaLR::apply() {
  auto rates = base_lrs_;
  for (auto& rate : rates) {
    rate *= factor_(last_epoch_);
  }
  set_lr(rates);
}

StateDict LambdaLR::state_dict() const {
  StateDict state;
  state.insert("base_lrs", to_tensor(base_lrs_));
  state.insert("last_epoch", to_tensor({static_cast<double>(last_epoch_)}));
  return state;
}

void LambdaLR::load_state_dict(const StateDict& state) {
  auto base_lrs = positive_numbers_of(state, "base_lrs", static_cast<int64_t>(base_lrs_.size()));
  last_epoch_ = whole_number_of(state, "last_epoch");
  base_lrs_ = std::move(base_lrs);
  apply();
}

ReduceLROnPlateau::ReduceLROnPlateau(torch::optim::Optimizer& optimizer, MetricOptions options)
    : LRScheduler(optimizer), options_(options), best_(worst(options)) {
  TORCH_CHECK(options.factor < 1, "ReduceLROnPlateau: factor must be below 1, got ", options.factor);
}

void ReduceLROnPlateau::step(std::optional<double> metric) {
  const auto current = required(metric, "reduce_lr_on_plateau");
  const bool better = is_better(current, best_, options_);
  best_ = better ? current : best_;
  bad_steps_ = better ? 0 : bad_steps_ + 1;
  if (cooldown_left_ > 0) {
    --cooldown_left_;
    bad_steps_ = 0;
  }
  if (bad_steps_ > options_.patience) {
    set_lr(reduced(get_last_lr(), options_));
    cooldown_left_ = options_.cooldown;
    bad_steps_ = 0;
  }
}

StateDict ReduceLROnPlateau::state_dict() const {
  StateDict state;
  state.insert("lrs", to_tensor(get_last_lr()));
  state.insert("best", to_tensor({best_}));
  state.insert("counters", to_tensor({static_cast<double>(bad_steps_), static_cast<double>(cooldown_left_)}));
  return state;
}

void ReduceLROnPlateau::load_state_dict(const StateDict& state) {
  const auto rates = positive_numbers_of(state, "lrs", static_cast<int64_t>(get_last_lr().size()));
  const auto counters = whole_numbers_of(state, "counters", 2);
  best_ = number_of(state, "best");
  bad_steps_ = counters[0];
  cooldown_left_ = counters[1];
  set_lr(rates);
}

GreedyLR::GreedyLR(torch::optim::Optimizer& optimizer, GreedyOptions options)
    : LRScheduler(optimizer),
      options_(options),
      initial_lrs_(get_last_lr()),
      best_(worst(options.metric)),
      resets_left_(options.reset_start) {
  TORCH_CHECK(options.metric.factor < 1, "GreedyLR: factor must be below 1, got ", options.metric.factor);
  TORCH_CHECK(options.window_size > 0, "GreedyLR: window_size must be positive, got ", options.window_size);
}

double GreedyLR::smoothed(double metric) {
  if (!options_.smooth) {
    return metric;
  }
  window_.push_back(metric);
  window_sum_ += metric;
  if (static_cast<int64_t>(window_.size()) > options_.window_size) {
    window_sum_ -= window_.front();
    window_.erase(window_.begin());
  }
  return window_sum_ / static_cast<double>(window_.size());
}

void GreedyLR::step(std::optional<double> metric) {
  const auto current = smoothed(required(metric, "greedy"));
  if (cooldown_left_ > 0 || warmup_left_ > 0) {
    --(cooldown_left_ > 0 ? cooldown_left_ : warmup_left_);
    good_steps_ = bad_steps_ = 0;
    return;
  }
  const bool better = is_better(current, best_, options_.metric);
  best_ = better ? current : best_;
  good_steps_ = better ? good_steps_ + 1 : 0;
  bad_steps_ = better ? 0 : bad_steps_ + 1;
  if (good_steps_ > options_.metric.patience) {
    increase();
  } else if (bad_steps_ > options_.metric.patience) {
    reduce();
  }
}

void GreedyLR::increase() {
  auto rates = get_last_lr();
  for (auto& rate : rates) {
    const auto higher = std::min(rate / options_.metric.factor, options_.max_lr);
    rate = higher - rate > options_.metric.eps ? higher : rate;
  }
  set_lr(rates);
  resets_left_ = options_.reset_start;
  warmup_left_ = options_.warmup;
  good_steps_ = 0;
}

void GreedyLR::reduce() {
  const auto rates = reduced(get_last_lr(), options_.metric);
  set_lr(rates);
  const auto above = [this](double rate) { return rate > options_.metric.min_lr; };
  if (std::none_of(rates.begin(), rates.end(), above) && --resets_left_ <= 0) {
    reset();
  }
  cooldown_left_ = options_.metric.cooldown;
  bad_steps_ = 0;
}

void GreedyLR::reset() {
  set_lr(initial_lrs_);
  best_ = worst(options_.metric);
  good_steps_ = warmup_left_ = 0;
  resets_left_ = options_.reset_start;
  window_.clear();
  window_sum_ = 0;
}

StateDict GreedyLR::state_dict() const {
  StateDict state;
  std::vector<double> counters;
  for (const auto counter : {good_steps_, bad_steps_, cooldown_left_, warmup_left_, resets_left_}) {
    counters.push_back(static_cast<double>(counter));
  }
  state.insert("lrs", to_tensor(get_last_lr()));
  state.insert("initial_lrs", to_tensor(initial_lrs_));
  state.insert("best", to_tensor({best_}));
  state.insert("counters", to_tensor(counters));
  state.insert("window", to_tensor(window_));
  state.insert("window_sum", to_tensor({window_sum_}));
  return state;
}

void GreedyLR::load_state_dict(const StateDict& state) {
  const auto groups = static_cast<int64_t>(initial_lrs_.size());
  const auto rates = positive_numbers_of(state, "lrs", groups);
  auto initial_lrs = positive_numbers_of(state, "initial_lrs", groups);
  const auto counters = whole_numbers_of(state, "counters", 5);
  auto window = numbers_of(state, "window");
  const auto window_sum = number_of(state, "window_sum");
  best_ = number_of(state, "best");
  window_sum_ = window_sum;
  window_ = std::move(window);
  initial_lrs_ = std::move(initial_lrs);
  good_steps_ = counters[0];
  bad_steps_ = counters[1];
  cooldown_left_ = counters[2];
  warmup_left_ = counters[3];
  resets_left_ = counters[4];
  set_lr(rates);
}

}  // namespace transformers
