#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace transformers {

/// What every `clip_grad_norm_` does once it knows the norm of all gradients together: scales these so that it is at
/// most `max_norm`, as `torch.nn.utils.clip_grads_with_norm_`. A `max_norm` of 0 or less leaves them; NaN is refused.
/// norm: fp32 [].
void clip_grads_with_norm_(const std::vector<at::Tensor>& gradients, double max_norm, const at::Tensor& norm);

}  // namespace transformers
