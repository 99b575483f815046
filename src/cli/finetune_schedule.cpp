#include <transformers/utils/optim/lr_scheduler.h>

#include "cli/finetune_options.h"
#include "utils/json/config_reader.h"
#include "utils/json/strict_json.h"

namespace transformers::cli {
namespace {

constexpr const char* kOption = "--lr-scheduler-kwargs";

Ramp ramp_from_name(std::string_view name) {
  TORCH_CHECK(name == "linear" || name == "cosine" || name == "1-sqrt", "must be linear, cosine or 1-sqrt, got ",
              std::string(name));
  return name == "linear" ? Ramp::kLinear : name == "cosine" ? Ramp::kCosine : Ramp::kOneMinusSqrt;
}

/// "min" or "max".
bool maximizes(std::string_view mode) {
  TORCH_CHECK(mode == "min" || mode == "max", "must be min or max, got ", std::string(mode));
  return mode == "max";
}

bool is_relative(std::string_view mode) {
  TORCH_CHECK(mode == "rel" || mode == "abs", "must be rel or abs, got ", std::string(mode));
  return mode == "rel";
}

void read_metric_options(ConfigReader& reader, MetricOptions& options) {
  reader.read_named<bool>("mode", options.maximize, maximizes);
  reader.read("factor", options.factor);
  reader.read("patience", options.patience);
  reader.read("threshold", options.threshold);
  reader.read_named<bool>("threshold_mode", options.relative_threshold, is_relative);
  reader.read("cooldown", options.cooldown);
  reader.read("min_lr", options.min_lr);
  reader.read("eps", options.eps);
}

void read_greedy_options(ConfigReader& reader, GreedyOptions& options) {
  read_metric_options(reader, options.metric);
  reader.read("warmup", options.warmup);
  reader.read("max_lr", options.max_lr);
  reader.read("smooth", options.smooth);
  reader.read("window_size", options.window_size);
  reader.read("reset_start", options.reset_start);
}

/// Each scheduler type reads its own options; an unknown option is an error.
void read_type_options(ConfigReader& reader, SchedulerType type, SchedulerOptions& options) {
  switch (type) {
    case SchedulerType::kReduceOnPlateau:
      return read_metric_options(reader, options.plateau);
    case SchedulerType::kGreedy:
      return read_greedy_options(reader, options.greedy);
    case SchedulerType::kPolynomial:
      reader.read("lr_end", options.lr_end);
      return reader.read("power", options.power);
    case SchedulerType::kInverseSqrt:
      return reader.read("timescale", options.timescale);
    case SchedulerType::kCosineWarmupWithMinLr:
      reader.read("warmup_lr_rate", options.warmup_lr_rate);
      [[fallthrough]];
    case SchedulerType::kCosineWithMinLr:
      reader.read("min_lr", options.min_lr);
      reader.read("min_lr_rate", options.min_lr_rate);
      [[fallthrough]];
    case SchedulerType::kCosine:
    case SchedulerType::kCosineWithRestarts:
      return reader.read("num_cycles", options.num_cycles);
    case SchedulerType::kWarmupStableDecay:
      reader.read("num_decay_steps", options.num_decay_steps);
      reader.read("num_stable_steps", options.num_stable_steps);
      reader.read_named<Ramp>("warmup_type", options.warmup_type, ramp_from_name);
      reader.read_named<Ramp>("decay_type", options.decay_type, ramp_from_name);
      reader.read("min_lr_ratio", options.min_lr_ratio);
      return reader.read("num_cycles", options.num_cycles);
    case SchedulerType::kLinear:
    case SchedulerType::kConstant:
    case SchedulerType::kConstantWithWarmup:
      return;
  }
}

}  // namespace

SchedulerOptions scheduler_options(const FinetuneOptions& options, SchedulerType type, int64_t max_steps) {
  SchedulerOptions schedule{.num_warmup_steps = options.warmup_steps, .num_training_steps = max_steps};
  if (options.lr_scheduler_kwargs.empty()) {
    return schedule;
  }
  const auto object = parse_strict_json(options.lr_scheduler_kwargs, kOption);
  ConfigReader reader(object, kOption);
  read_type_options(reader, type, schedule);
  for (const auto& [key, unused] : reader.rest()) {
    reader.fail(key, "left out: the schedule " + scheduler_type_name(type) + " takes no such option");
  }
  return schedule;
}

}  // namespace transformers::cli
