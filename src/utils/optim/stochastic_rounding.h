#pragma once

#include <ATen/core/Tensor.h>

namespace transformers {

/// Writes fp32 `source` into bf16 `target`: the two neighbours of a value are taken with probabilities that make it the
/// mean. Draws from the device's default generator. Infinite and NaN values are kept.
void round_stochastically_(at::Tensor& target, const at::Tensor& source);

}  // namespace transformers
