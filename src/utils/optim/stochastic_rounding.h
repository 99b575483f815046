#pragma once

#include <ATen/core/Tensor.h>

namespace transformers {

/// Rounds fp32 `source` into bf16 `target`: each value becomes one of its two neighbours, with probabilities such that
/// it is the mean. Draws from the device's default generator. Infinite and NaN values are kept.
void round_stochastically_(at::Tensor& target, const at::Tensor& source);

}  // namespace transformers
