#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace transformers {

/// The second half of every `clip_grad_norm_`: scales gradients by the `norm` of all gradients together so that it is
/// at most `max_norm`, as `torch.nn.utils.clip_grads_with_norm_`. A `max_norm` of 0 or less does not change them;
/// throws when it is NaN. norm: fp32 [].
void clip_grads_with_norm_(const std::vector<at::Tensor>& gradients, double max_norm, const at::Tensor& norm);

}  // namespace transformers
