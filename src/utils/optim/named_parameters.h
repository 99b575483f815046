#pragma once

#include <torch/nn/module.h>

#include <string>
#include <utility>
#include <vector>

namespace transformers {

/// Names and tensors of the trainable parameters; a tied tensor once, under its first name.
std::vector<std::pair<std::string, at::Tensor>> named_trainable_parameters(const torch::nn::Module& model);

}  // namespace transformers
