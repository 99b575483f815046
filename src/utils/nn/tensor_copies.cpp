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
  // A weight without values, such as that of a quantised layer, has none wherever it lies.
  const auto device = tensor.is_meta() ? tensor.device() : device_.value_or(tensor.device());
  const auto copy = tensor.detach().to(device, tensor.scalar_type(), /*non_blocking=*/false, /*copy=*/true);
  copy.requires_grad_(tensor.requires_grad());
  place->second = copy;
  if (const auto hook = parameter_hook(tensor)) {
    add_parameter_hook(copy, hook->copied(*this));  // it may ask for copies in turn: `place` is used no more
  }
  return copy;
}

}  // namespace transformers
