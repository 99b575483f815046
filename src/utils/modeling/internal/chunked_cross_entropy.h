#pragma once

#include <transformers/utils/modeling/linear_cross_entropy.h>

#include <functional>

namespace transformers {

/// Computes the loss of one chunk from its logits [rows, classes], labels, int64 [rows], and the factor `share`, [], of
/// the chunk's summed loss. Returns the sum of the chunk's losses, fp32 [], and replaces the logits by the gradient of
/// share · sum, in any dtype.
using ChunkLoss = std::function<at::Tensor(at::Tensor& logits, const at::Tensor& labels, const at::Tensor& share)>;

/// The tensors that `linear_cross_entropy` takes, in the shapes given there; bias may be undefined.
struct LinearCrossEntropyInputs {
  const at::Tensor &hidden, &weight, &bias, &labels;
};

/// `linear_cross_entropy` with another loss function, which has to apply `options.label_smoothing` itself.
at::Tensor chunked_cross_entropy(const LinearCrossEntropyInputs& inputs, const LinearCrossEntropyOptions& options,
                                 const ChunkLoss& chunk_loss);

}  // namespace transformers
