#pragma once

#include <transformers/utils/pruning/prune_functions.h>

#include <string>

namespace transformers {

// The conditions that must hold before a layer is pruned. Errors begin with `whose`, the layer's name.

/// first: a Linear or Conv2d; next: the layer that reads it, or null.
void check_channels(const std::string& whose, const torch::nn::Module& first, const ChannelMask& mask,
                    const std::vector<ChannelStep>& steps, const torch::nn::Module* next);

/// layernorm may be null.
void check_lstm(const std::string& whose, const torch::nn::LSTMImpl& lstm, const std::vector<LSTMLayerMask>& masks,
                const torch::nn::LayerNormImpl* layernorm, const torch::nn::LinearImpl& linear);

}  // namespace transformers
