#pragma once

#include <ATen/core/Tensor.h>
#include <transformers/export.h>

#include <functional>

namespace TRANSFORMERS_API transformers {

/// Runs `block` on `input` without keeping its activations: backward runs it again, with the random numbers and the
/// autocast mode of the first run, so that values and gradients equal those of a plain call, dropout included.
/// Gradients reach the input and every parameter that `block` uses. Outside of grad mode it is a plain call. Mirrors
/// `torch.utils.checkpoint.checkpoint` with use_reentrant=True, torch 2.11.0.
at::Tensor checkpoint(const std::function<at::Tensor(const at::Tensor& input)>& block, const at::Tensor& input);

}  // namespace transformers
