#include <ATen/core/grad_mode.h>
#include <transformers/utils/nn/tensor_copies.h>

#include "utils/nn/internal/parameter_hook.h"

namespace transformers {

at::Tensor TensorCopies::of(const at::Tensor& tensor) {
  if (!tensor.defined()) {
    return {};
  }
  const at::NoGradGuard no_grad;
  const auto [place, is_new] = copies_.try_emplace(tensor.unsafeGetTensorImpl());
  if (!is_new) {
    return place->second;
  }
  // A weight without values, such as that of a quantised layer, remains on the meta device.
  const auto device = tensor.is_meta() ? tensor.device() : device_.value_or(tensor.device());
  const auto copy = tensor.detach().to(device, tensor.scalar_type(), /*non_blocking=*/false, /*copy=*/true);
  copy.requires_grad_(tensor.requires_grad());
  place->second = copy;
  if (const auto hook = parameter_hook(tensor)) {
    add_parameter_hook(copy, hook->copied(*this));  // may request copies itself, so `place` must not be used after this
  }
  return copy;
}

}  // namespace transformers
