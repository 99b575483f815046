#include <transformers/utils/training/early_stopping.h>

#include <cmath>

#include "utils/optim/internal/numbers.h"

namespace transformers {

EarlyStoppingCallback::EarlyStoppingCallback(int64_t early_stopping_patience, double early_stopping_threshold)
    : patience_(early_stopping_patience), threshold_(early_stopping_threshold) {
  TORCH_CHECK(patience_ > 0, "early_stopping_patience must be positive, got ", patience_);
  TORCH_CHECK(threshold_ >= 0, "early_stopping_threshold must be 0 or more, got ", threshold_);
}

bool EarlyStoppingCallback::on_evaluate(double metric, std::optional<double> best_metric, bool greater_is_better) {
  const bool improved = !best_metric || ((greater_is_better ? metric > *best_metric : metric < *best_metric) &&
                                         std::abs(metric - *best_metric) > threshold_);
  counter_ = improved ? 0 : counter_ + 1;
  return counter_ < patience_;
}

StateDict EarlyStoppingCallback::state_dict() const {
  StateDict state;
  state.insert("counter", to_tensor({static_cast<double>(counter_)}));
  return state;
}

void EarlyStoppingCallback::load_state_dict(const StateDict& state) { counter_ = whole_number_of(state, "counter"); }

}  // namespace transformers
