#pragma once

#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>

#include <string>

namespace transformers {

/// Gives `tensor`, the parameter `name` of `module` alone, the fresh values HF's `_init_weights` draws.
void init_parameter(torch::nn::Module& module, const std::string& name, at::Tensor tensor, double initializer_range);

}  // namespace transformers
