#pragma once

#include <transformers/export.h>
#include <transformers/utils/nn/state_dict.h>

#include <cstdint>
#include <optional>

namespace TRANSFORMERS_API transformers {

/// Ends a run whose metric no longer improves. Mirrors HF `EarlyStoppingCallback` (trainer_callback.py, transformers
/// 5.23.0).
class EarlyStoppingCallback {
 public:
  /// Stops after `early_stopping_patience` evaluations in a row that were not better than the best before them by more
  /// than `early_stopping_threshold`.
  explicit EarlyStoppingCallback(int64_t early_stopping_patience = 1, double early_stopping_threshold = 0);

  /// To be called after each evaluation, with the best metric before it. Returns whether the run continues.
  bool on_evaluate(double metric, std::optional<double> best_metric, bool greater_is_better);

  /// Evaluations in a row without an improvement.
  int64_t early_stopping_patience_counter() const { return counter_; }

  StateDict state_dict() const;
  void load_state_dict(const StateDict& state);

 private:
  int64_t patience_;
  double threshold_;
  int64_t counter_ = 0;
};

}  // namespace transformers
