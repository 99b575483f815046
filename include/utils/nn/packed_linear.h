#pragma once

#include <transformers/export.h>
#include <transformers/utils/nn/linear.h>

namespace TRANSFORMERS_API transformers {

/// A matmul with a copy of the weight in oneDNN's own layout, made once: faster than the plain matmul on a CPU,
/// most for few rows. fp32 and bf16; in bf16 bit-equal to the plain matmul. The layer keeps its weight, for the state
/// dict and for what this method leaves to the plain matmul: calls that record gradients, inputs of another dtype or
/// device, and a weight that is no longer the one that was packed. A weight changed in place must be packed again.
class PackedLinear : public LinearMethod {
 public:
  /// Whether this LibTorch and this machine can pack such a weight.
  static bool supports(const torch::Tensor& weight);

  /// weight: [out_features, in_features], of the layer this method will be set on. Throws where `supports` says no.
  explicit PackedLinear(const torch::Tensor& weight);

  torch::Tensor forward(const LinearImpl& linear, const torch::Tensor& input) const override;
  /// Packs the copy's weight.
  std::shared_ptr<const LinearMethod> clone(const LinearImpl& copy, TensorCopies& copies) const override;

 private:
  bool is_packed_one(const torch::Tensor& weight) const;

  torch::Tensor packed_;
  // Weak, so that a weight that is replaced can go, and its place be known from a later one's at the same address.
  c10::weak_intrusive_ptr<c10::StorageImpl> storage_;
  const void* data_;
};

}  // namespace transformers
