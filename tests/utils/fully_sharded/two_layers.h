#pragma once

#include <torch/torch.h>
#include <transformers/utils/fully_sharded/fully_sharded.h>
#include <transformers/utils/nn/linear.h>
#include <transformers/utils/nn/module.h>

#include <memory>

namespace transformers::testing {

/// Two linear layers of ours, each a unit where asked for, and a scale of the root's.
struct TwoLayersImpl : Module {
  explicit TwoLayersImpl(int64_t width = 3) {
    first = register_module("first", Linear(width, width));
    second = register_module("second", Linear(width, width));
    scale = register_parameter("scale", torch::ones({width}));
  }
  /// order: which layer comes first, or -1 for the first alone.
  at::Tensor forward(const at::Tensor& input, int64_t order = 0) {
    if (order < 0) {
      return first(input) * scale;
    }
    return (order == 0 ? second(first(input)) : first(second(input))) * scale;
  }
  Linear first{nullptr}, second{nullptr};
  at::Tensor scale;
};

inline FullyShardedOptions each_layer() { return {.auto_wrap_policy = wrap_modules<LinearImpl>()}; }

inline std::shared_ptr<TwoLayersImpl> two_layers(int64_t seed = 3, int64_t width = 3) {
  torch::manual_seed(seed);
  return std::make_shared<TwoLayersImpl>(width);
}

}  // namespace transformers::testing
