#pragma once

#include <transformers/export.h>
#include <transformers/utils/nn/linear.h>

namespace TRANSFORMERS_API transformers {

/// Computes the matmul in `slices` parts of the output features and concatenates them: `pretraining_tp` of LLaMA in
/// transformers 4.x.
class RowSlices : public LinearMethod {
 public:
  explicit RowSlices(int64_t slices) : slices_(slices) {}
  torch::Tensor forward(const LinearImpl& linear, const torch::Tensor& input) const override;

 private:
  int64_t slices_;
};

/// Computes the matmul in `slices` parts of the input features and sums them; the bias is added once (4.x drops it).
class ColumnSlices : public LinearMethod {
 public:
  explicit ColumnSlices(int64_t slices) : slices_(slices) {}
  torch::Tensor forward(const LinearImpl& linear, const torch::Tensor& input) const override;

 private:
  int64_t slices_;
};

}  // namespace transformers
