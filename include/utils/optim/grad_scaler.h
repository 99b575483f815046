#pragma once

#include <torch/optim/optimizer.h>
#include <transformers/export.h>
#include <transformers/utils/nn/state_dict.h>

#include <map>

namespace TRANSFORMERS_API transformers {

struct GradScalerOptions {
  double init_scale = 65536;
  double growth_factor = 2;
  double backoff_factor = 0.5;
  /// Number of steps without an infinite gradient after which the scale grows.
  int64_t growth_interval = 2000;
};

/// Keeps small fp16 gradients from vanishing: the loss is scaled up, gradients are scaled down before the step, and a
/// step with infinite or NaN gradients is skipped and lowers the scale. Mirrors `torch.amp.GradScaler`, torch 2.11.0.
///
///     scaler.scale(loss).backward();
///     scaler.unscale_(optimizer);            // only to look at or clip the gradients
///     scaler.step(optimizer);
///     scaler.update();
class GradScaler {
 public:
  explicit GradScaler(GradScalerOptions options = {});

  at::Tensor scale(const at::Tensor& loss);
  /// Divides the gradients of all groups by the scale. Throws when called twice for an optimizer before update().
  void unscale_(torch::optim::Optimizer& optimizer);
  /// Unscales the gradients if that has not been done yet. Returns whether the optimizer stepped.
  bool step(torch::optim::Optimizer& optimizer);
  /// To be called once after all optimizers have stepped.
  void update();

  double get_scale() const;

  StateDict state_dict() const;
  void load_state_dict(const StateDict& state);

 private:
  GradScalerOptions options_;
  at::Tensor scale_, growth_tracker_;  // float32 [], int32 [], made on the first loss's device
  // float32 [] of each optimizer whose gradients are unscaled: whether one is infinite
  std::map<const torch::optim::Optimizer*, at::Tensor> found_inf_;
};

}  // namespace transformers
