#pragma once

#include <torch/nn/module.h>

#include <string>

#include "utils/nn/internal/module_buffers.h"

namespace transformers {

/// Unregisters a buffer of a module, for which LibTorch has no function.
void erase_buffer(torch::nn::Module& module, const std::string& name);

}  // namespace transformers
