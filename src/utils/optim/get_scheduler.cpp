// The schedules of optimization.py, transformers 5.23.0, as factors of the step number for LambdaLR; most of them begin
// with a linear warm-up. Schedules that follow a metric are classes of their own in lr_scheduler.cpp.
#include <transformers/utils/optim/lr_scheduler.h>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace transformers {
namespace {

using Factor = LambdaLR::Factor;

int64_t required(std::optional<int64_t> steps, SchedulerType type, const char* option) {
  TORCH_CHECK(steps && *steps >= 0, "schedule ", scheduler_type_name(type), " needs ", option,
              steps ? " to be 0 or more, got " + std::to_string(*steps) : "");
  return *steps;
}

double share(int64_t step, int64_t of) {
  return static_cast<double>(step) / static_cast<double>(std::max<int64_t>(1, of));
}

/// Rises linearly during the warm-up; then `after` gives the factor of the step.
Factor with_warmup(int64_t warmup, Factor after) {
  return [warmup, after = std::move(after)](int64_t step) { return step < warmup ? share(step, warmup) : after(step); };
}

/// `falling`, as a function of the fraction of the steps after the warm-up that are done.
Factor with_warmup(int64_t warmup, int64_t total, const std::function<double(double progress)>& falling) {
  return with_warmup(warmup, [=](int64_t step) { return falling(share(step - warmup, total - warmup)); });
}

double cosine(double waves, double progress) { return 0.5 * (1 + std::cos(std::numbers::pi * waves * 2 * progress)); }

double lifted(double factor, double floor) { return factor * (1 - floor) + floor; }

double min_lr_rate(const SchedulerOptions& options, SchedulerType type, double lr) {
  TORCH_CHECK(options.min_lr.has_value() != options.min_lr_rate.has_value(), "schedule ", scheduler_type_name(type),
              " needs exactly one of min_lr and min_lr_rate");
  return options.min_lr ? *options.min_lr / lr : *options.min_lr_rate;
}

Factor linear(int64_t warmup, int64_t total) {
  return with_warmup(warmup, [=](int64_t step) { return std::max(0.0, share(total - step, total - warmup)); });
}

Factor cosine_with_restarts(int64_t warmup, int64_t total, double waves) {
  return with_warmup(warmup, total, [=](double progress) {
    return progress >= 1 ? 0 : 0.5 * (1 + std::cos(std::numbers::pi * std::fmod(waves * progress, 1.0)));
  });
}

Factor polynomial(int64_t warmup, int64_t total, const SchedulerOptions& options, double lr) {
  TORCH_CHECK(lr > options.lr_end, "schedule polynomial: lr_end must be below the learning rate, got ", options.lr_end,
              " and ", lr);
  return with_warmup(warmup, [=, lr_end = options.lr_end, power = options.power](int64_t step) {
    if (step > total) {
      return lr_end / lr;
    }
    const auto left = 1 - static_cast<double>(step - warmup) / static_cast<double>(total - warmup);
    return ((lr - lr_end) * std::pow(left, power) + lr_end) / lr;
  });
}

Factor inverse_sqrt(const SchedulerOptions& options) {
  const auto warmup = options.num_warmup_steps;
  const auto timescale = options.timescale.value_or(warmup == 0 ? 10'000 : warmup);
  TORCH_CHECK(timescale > 0, "schedule inverse_sqrt: timescale must be positive, got ", timescale);
  return with_warmup(warmup, [=](int64_t step) {
    return 1 / std::sqrt(static_cast<double>(step + timescale - warmup) / static_cast<double>(timescale));
  });
}

/// HF is one step ahead here: the first rate is not 0, and the last one is the lower end.
Factor cosine_warmup_with_min_lr(int64_t warmup, int64_t total, const SchedulerOptions& options, double floor) {
  const auto waves = options.num_cycles.value_or(0.5);
  return [=, start = options.warmup_lr_rate](int64_t step) {
    if (step < warmup) {
      return start ? *start + (1 - *start) * share(step, warmup - 1) : share(step + 1, warmup);
    }
    return std::max(0.0, lifted(cosine(waves, share(step - warmup + 1, total - warmup)), floor));
  };
}

double risen(Ramp ramp, double progress) {
  switch (ramp) {
    case Ramp::kLinear:
      return progress;
    case Ramp::kCosine:
      return 0.5 * (1 - std::cos(std::numbers::pi * progress));
    case Ramp::kOneMinusSqrt:
      return 1 - std::sqrt(1 - progress);
  }
  TORCH_INTERNAL_ASSERT(false);
}

double fallen(Ramp ramp, double progress, double waves) {
  switch (ramp) {
    case Ramp::kLinear:
      return 1 - progress;
    case Ramp::kCosine:
      return cosine(waves, progress);
    case Ramp::kOneMinusSqrt:
      return 1 - std::sqrt(progress);
  }
  TORCH_INTERNAL_ASSERT(false);
}

Factor warmup_stable_decay(const SchedulerOptions& options) {
  constexpr auto kType = SchedulerType::kWarmupStableDecay;
  const auto warmup = options.num_warmup_steps;
  const auto decay = required(options.num_decay_steps, kType, "num_decay_steps");
  const auto stable =
      options.num_stable_steps
          ? *options.num_stable_steps
          : required(options.num_training_steps, kType, "num_training_steps or num_stable_steps") - warmup - decay;
  const auto floor = options.min_lr_ratio;
  return [=, rise = options.warmup_type, fall = options.decay_type,
          waves = options.num_cycles.value_or(0.5)](int64_t step) {
    if (step < warmup) {
      return std::max(0.0, lifted(risen(rise, share(step, warmup)), floor));
    }
    if (step < warmup + stable) {
      return 1.0;
    }
    const auto falling = step - warmup - stable;
    return falling < decay ? std::max(0.0, lifted(fallen(fall, share(falling, decay), waves), floor)) : floor;
  };
}

Factor factor_of(SchedulerType type, const SchedulerOptions& options, double lr) {
  const auto warmup = options.num_warmup_steps;
  const auto total = [&] { return required(options.num_training_steps, type, "num_training_steps"); };
  switch (type) {
    case SchedulerType::kLinear:
      return linear(warmup, total());
    case SchedulerType::kCosine:
      return with_warmup(warmup, total(), [waves = options.num_cycles.value_or(0.5)](double progress) {
        return std::max(0.0, cosine(waves, progress));
      });
    case SchedulerType::kCosineWithRestarts:
      return cosine_with_restarts(warmup, total(), options.num_cycles.value_or(1));
    case SchedulerType::kPolynomial:
      return polynomial(warmup, total(), options, lr);
    case SchedulerType::kConstant:
      return [](int64_t) { return 1.0; };
    case SchedulerType::kConstantWithWarmup:
      return with_warmup(warmup, [](int64_t) { return 1.0; });
    case SchedulerType::kInverseSqrt:
      return inverse_sqrt(options);
    case SchedulerType::kCosineWithMinLr:
      return with_warmup(warmup, total(),
                         [waves = options.num_cycles.value_or(0.5), floor = min_lr_rate(options, type, lr)](
                             double progress) { return std::max(0.0, lifted(cosine(waves, progress), floor)); });
    case SchedulerType::kCosineWarmupWithMinLr:
      return cosine_warmup_with_min_lr(warmup, total(), options, min_lr_rate(options, type, lr));
    case SchedulerType::kWarmupStableDecay:
      return warmup_stable_decay(options);
    case SchedulerType::kReduceOnPlateau:
    case SchedulerType::kGreedy:
      break;
  }
  TORCH_INTERNAL_ASSERT(false, "a schedule that follows a metric has no factor of the step");
}

}  // namespace

std::unique_ptr<LRScheduler> get_scheduler(SchedulerType type, torch::optim::Optimizer& optimizer,
                                           const SchedulerOptions& options) {
  TORCH_CHECK(options.num_warmup_steps >= 0, "schedule ", scheduler_type_name(type),
              ": num_warmup_steps must be 0 or more, got ", options.num_warmup_steps);
  if (type == SchedulerType::kReduceOnPlateau) {
    return std::make_unique<ReduceLROnPlateau>(optimizer, options.plateau);
  }
  if (type == SchedulerType::kGreedy) {
    return std::make_unique<GreedyLR>(optimizer, options.greedy);
  }
  return std::make_unique<LambdaLR>(optimizer, factor_of(type, options, optimizer.defaults().get_lr()));
}

}  // namespace transformers
