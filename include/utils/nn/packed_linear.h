#pragma once

#include <transformers/export.h>
#include <transformers/utils/nn/linear.h>

namespace TRANSFORMERS_API transformers {

/// A matmul with a copy of the weight in oneDNN's own layout, which is made once. On a CPU it is faster than the plain
/// matmul, most of all for few rows. Supports fp32 and bf16; in bf16 the result is bit-equal to `at::linear`. The
/// layer keeps its weight, for the state dict and for the calls that still use the plain matmul: those that record
/// gradients, those with inputs of another dtype or device, and those after the weight was replaced. A weight that is
/// changed in place must be packed again.
class PackedLinear : public LinearMethod {
 public:
  /// Whether this build of LibTorch and this machine can pack the weight.
  static bool supports(const torch::Tensor& weight);

  /// weight: [out_features, in_features], that of the layer on which the method will be set. Throws where `supports`
  /// returns false.
  explicit PackedLinear(const torch::Tensor& weight);

  torch::Tensor forward(const LinearImpl& linear, const torch::Tensor& input) const override;
  /// Packs the weight of the copy.
  std::shared_ptr<const LinearMethod> clone(const LinearImpl& copy, TensorCopies& copies) const override;

 private:
  bool is_packed_one(const torch::Tensor& weight) const;

  torch::Tensor packed_;
  // Weak, so that a replaced weight can be freed and a later one at the same address is not taken for it.
  c10::weak_intrusive_ptr<c10::StorageImpl> storage_;
  const void* data_;
};

}  // namespace transformers
