#include "utils/nn/internal/gradient_norm.h"

#include <ATen/ATen.h>

#include <cmath>

namespace transformers {

void clip_grads_with_norm_(const std::vector<at::Tensor>& gradients, double max_norm, const at::Tensor& norm) {
  TORCH_CHECK(!std::isnan(max_norm), "clip_grad_norm_: max_norm must be a number, got nan");
  if (max_norm <= 0) {
    return;
  }
  const at::NoGradGuard no_grad;
  const auto scale = (max_norm / (norm + 1e-6)).clamp_max(1);
  for (const auto& gradient : gradients) {
    gradient.mul_(scale.to(gradient.device(), gradient.scalar_type()));
  }
}

}  // namespace transformers
