#pragma once

#include <ATen/core/Tensor.h>
#include <transformers/export.h>
#include <transformers/utils/nn/linear.h>

#include <optional>

namespace TRANSFORMERS_API transformers {

struct LinearCrossEntropyOptions {
  /// Rows whose logits are in memory at one time.
  int64_t chunk_rows = 256;
  /// Divides the summed loss; unset: the number of counted labels.
  std::optional<double> num_items_in_batch{};
  /// Share of the target that is spread over all classes.
  double label_smoothing = 0;
};

/// Cross-entropy of `linear(hidden, weight, bias)` in fp32, [], without ever materialising all logits: the gradients of
/// a chunk are computed right after its loss, and backward only scales them. The result equals that of the two
/// operations one after the other. hidden: [rows, features]; weight: [classes, features]; bias: [classes] or undefined;
/// labels: int64 [rows], −100 is not counted. Gradients of gradients are not supported.
at::Tensor linear_cross_entropy(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& bias,
                                const at::Tensor& labels, const LinearCrossEntropyOptions& options = {});

/// The linear method of a head that can compute its cross-entropy without all logits, for example because its classes
/// are split over processes.
class CrossEntropyMethod : public LinearMethod {
 public:
  /// `linear_cross_entropy` of the layer: hidden [rows, features], labels int64 [rows]; returns [].
  virtual torch::Tensor cross_entropy(const LinearImpl& linear, const torch::Tensor& hidden,
                                      const torch::Tensor& labels, const LinearCrossEntropyOptions& options) const = 0;
};

}  // namespace transformers
