#pragma once

#include <transformers/utils/nn/linear.h>

namespace transformers {

/// The product with a copy of the weight in oneDNN's own layout, made once: faster than the plain product on a CPU,
/// most for few rows. fp32 and bf16; in bf16 bit-equal to the plain product. The layer keeps its weight, for the state
/// dict and for what this method leaves to the plain product: calls that record gradients, inputs of another dtype or
/// device, and a weight that is no longer the one that was packed. A weight changed in place must be packed again.
class PackedLinear : public LinearMethod {
 public:
  /// Whether this LibTorch and this machine can pack such a weight.
  static bool supports(const torch::Tensor& weight);

  /// weight: [out_features, in_features], of the layer this method will be set on. Throws where `supports` says no.
  explicit PackedLinear(const torch::Tensor& weight);

  torch::Tensor forward(const LinearImpl& linear, const torch::Tensor& input) const override;

 private:
  torch::Tensor packed_;
  const void* weight_data_;
};

}  // namespace transformers
