#pragma once

#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>

#include <string>

namespace transformers {

/// Newly initializes `tensor`, the parameter `name` of `module` itself, with the values that HF's `_init_weights`
/// draws.
void init_parameter(torch::nn::Module& module, const std::string& name, at::Tensor tensor, double initializer_range);

}  // namespace transformers
