#pragma once

#include <transformers/utils/nn/forward_hooks.h>

#include "utils/nn/copy_buffers.h"

namespace transformers {

/// Makes one of LibTorch's layers a copy of another: options, parameters, buffers, hooks and mode. `parameters`: the
/// registered ones of `copy`.
template <typename Layer>
void copy_layer(const Layer& layer, Layer& copy, torch::OrderedDict<std::string, torch::Tensor>& parameters,
                TensorCopies& copies) {
  copy.options = layer.options;
  parameters["weight"] = copy.weight = copies.of(layer.weight);
  if constexpr (requires { copy.bias; }) {
    parameters["bias"] = copy.bias = copies.of(layer.bias);
  }
  copy_buffers(layer, copy, copies);
  static_cast<ForwardHooks&>(copy) = layer;
  copy.train(layer.is_training());
}

}  // namespace transformers
