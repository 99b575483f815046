#pragma once

#include <torch/nn/modules/normalization.h>
#include <transformers/export.h>
#include <transformers/utils/nn/module.h>

namespace TRANSFORMERS_API transformers {

/// `torch::nn::LayerNorm` over the last dimension, constructed according to `construction_options()`. weight, bias:
/// [size].
class LayerNormImpl : public torch::nn::LayerNormImpl, public ForwardHooks {
 public:
  LayerNormImpl(int64_t size, double eps);

  /// Makes this a copy of another layer: parameters, buffers, hooks and mode.
  void copy_from(const LayerNormImpl& other, TensorCopies& copies);
  std::shared_ptr<torch::nn::Module> clone(const std::optional<torch::Device>& device = std::nullopt) const override;
};
TRANSFORMERS_MODULE(LayerNorm);

}  // namespace transformers
