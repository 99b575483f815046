#pragma once

#include <torch/nn/module.h>
#include <transformers/utils/nn/tensor_copies.h>

namespace transformers {

/// Gives a copy of a module the buffers of the original, including those that were registered after construction, such
/// as the masks of pruning.
void copy_buffers(const torch::nn::Module& module, torch::nn::Module& copy, TensorCopies& copies);

}  // namespace transformers
