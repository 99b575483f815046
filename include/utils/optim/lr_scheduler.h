#pragma once

#include <torch/optim/optimizer.h>
#include <transformers/export.h>
#include <transformers/utils/nn/state_dict.h>

#include <functional>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

namespace TRANSFORMERS_API transformers {

// Mirrors `get_scheduler` and the schedules of optimization.py, transformers 5.23.0, and ReduceLROnPlateau of
// torch 2.11.0.

/// HF's names: linear, cosine, cosine_with_restarts, polynomial, constant, constant_with_warmup, inverse_sqrt,
/// reduce_lr_on_plateau, cosine_with_min_lr, cosine_warmup_with_min_lr, warmup_stable_decay, greedy.
enum class SchedulerType {
  kLinear,
  kCosine,
  kCosineWithRestarts,
  kPolynomial,
  kConstant,
  kConstantWithWarmup,
  kInverseSqrt,
  kReduceOnPlateau,
  kCosineWithMinLr,
  kCosineWarmupWithMinLr,
  kWarmupStableDecay,
  kGreedy,
};

SchedulerType scheduler_type_from_name(std::string_view name);
std::string scheduler_type_name(SchedulerType type);

/// Sets the learning rates of an optimizer's groups at every step. LibTorch's own base class can be neither saved nor
/// resumed. The optimizer must outlive the scheduler.
class LRScheduler {
 public:
  explicit LRScheduler(torch::optim::Optimizer& optimizer);
  virtual ~LRScheduler() = default;
  LRScheduler(const LRScheduler&) = delete;
  LRScheduler& operator=(const LRScheduler&) = delete;

  /// To be called after each optimizer step. Schedules that follow a metric throw without one; others ignore it.
  virtual void step(std::optional<double> metric = std::nullopt) = 0;
  virtual bool follows_metric() const { return false; }

  /// The current rate of each group.
  std::vector<double> get_last_lr() const;

  /// The progress of the schedule, as float64 tensors; its options are not included.
  virtual StateDict state_dict() const = 0;
  /// Also sets the rates. Throws, changing nothing, when a number is missing or the number of groups differs.
  virtual void load_state_dict(const StateDict& state) = 0;

 protected:
  void set_lr(const std::vector<double>& rates);

 private:
  torch::optim::Optimizer& optimizer_;
};

/// Multiplies the initial rate by a factor that depends on the number of steps taken; the factor of step 0 applies from
/// construction on.
class LambdaLR : public LRScheduler {
 public:
  using Factor = std::function<double(int64_t step)>;

  LambdaLR(torch::optim::Optimizer& optimizer, Factor factor);

  void step(std::optional<double> metric = std::nullopt) override;
  StateDict state_dict() const override;
  void load_state_dict(const StateDict& state) override;

 private:
  void apply();

  Factor factor_;
  std::vector<double> base_lrs_;
  int64_t last_epoch_ = 0;
};

/// When ReduceLROnPlateau and GreedyLR consider a metric better, and how they react.
struct MetricOptions {
  bool maximize = false;
  double factor = 0.1;
  int64_t patience = 10;
  double threshold = 1e-4;
  bool relative_threshold = true;
  int64_t cooldown = 0;
  double min_lr = 0;
  double eps = 1e-8;
};

/// Multiplies the rates by `factor` after more than `patience` steps without a better metric. Mirrors torch's class of
/// that name.
class ReduceLROnPlateau : public LRScheduler {
 public:
  explicit ReduceLROnPlateau(torch::optim::Optimizer& optimizer, MetricOptions options = {});

  void step(std::optional<double> metric = std::nullopt) override;
  bool follows_metric() const override { return true; }
  StateDict state_dict() const override;
  void load_state_dict(const StateDict& state) override;

 private:
  MetricOptions options_;
  double best_;
  int64_t bad_steps_ = 0, cooldown_left_ = 0;
};

struct GreedyOptions {
  MetricOptions metric{.factor = 0.95, .threshold = 1e-6, .relative_threshold = false, .min_lr = 1e-3};
  int64_t warmup = 0;
  double max_lr = 1.0;
  /// Use the mean of the last `window_size` metrics.
  bool smooth = false;
  int64_t window_size = 50;
  /// After so many reductions with every group at min_lr, the schedule starts again.
  int64_t reset_start = 500;
};

/// Raises the rates by `factor` while the metric improves and lowers them while it does not. Mirrors HF `GreedyLR`.
class GreedyLR : public LRScheduler {
 public:
  explicit GreedyLR(torch::optim::Optimizer& optimizer, GreedyOptions options = {});

  void step(std::optional<double> metric = std::nullopt) override;
  bool follows_metric() const override { return true; }
  StateDict state_dict() const override;
  void load_state_dict(const StateDict& state) override;

 private:
  double smoothed(double metric);
  void reduce();
  void increase();
  void reset();

  GreedyOptions options_;
  std::vector<double> initial_lrs_, window_;
  double window_sum_ = 0, best_;
  int64_t good_steps_ = 0, bad_steps_ = 0, cooldown_left_ = 0, warmup_left_ = 0, resets_left_;
};

/// Shape of a rise or fall.
enum class Ramp { kLinear, kCosine, kOneMinusSqrt };

/// HF's arguments of the schedules; each is used by the types named beside it.
struct SchedulerOptions {
  int64_t num_warmup_steps = 0;
  /// Total number of steps of the run. Needed by every type except the constant ones, inverse_sqrt and those that
  /// follow a metric.
  std::optional<int64_t> num_training_steps{};
  /// Number of cosine waves; unset: 0.5, for cosine_with_restarts 1.
  std::optional<double> num_cycles{};
  /// polynomial
  double lr_end = 1e-7;
  double power = 1;
  /// inverse_sqrt; unset: num_warmup_steps, or 10,000 without warm-up.
  std::optional<int64_t> timescale{};
  /// The two cosine types with a lower end: exactly one of these.
  std::optional<double> min_lr{};
  std::optional<double> min_lr_rate{};
  /// cosine_warmup_with_min_lr: the initial share of the rate.
  std::optional<double> warmup_lr_rate{};
  /// warmup_stable_decay; num_stable_steps unset: the steps between warm-up and decay.
  std::optional<int64_t> num_decay_steps{};
  std::optional<int64_t> num_stable_steps{};
  Ramp warmup_type = Ramp::kLinear;
  Ramp decay_type = Ramp::kCosine;
  double min_lr_ratio = 0;
  /// reduce_lr_on_plateau
  MetricOptions plateau{};
  GreedyOptions greedy{};
};

/// Throws when an option that the type needs is missing or out of range.
std::unique_ptr<LRScheduler> get_scheduler(SchedulerType type, torch::optim::Optimizer& optimizer,
                                           const SchedulerOptions& options = {});

}  // namespace transformers
