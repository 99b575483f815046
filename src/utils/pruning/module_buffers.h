#pragma once

#include <torch/nn/module.h>

#include <string>

#include "utils/nn/internal/module_buffers.h"

namespace transformers {

/// Takes a buffer out of a module, which LibTorch's modules cannot.
void erase_buffer(torch::nn::Module& module, const std::string& name);

}  // namespace transformers
