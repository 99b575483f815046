#pragma once

#include <transformers/utils/modeling/linear_cross_entropy.h>

#include <functional>

namespace transformers {

/// Gets a chunk's logits [rows, classes], labels, int64 [rows], and the share of the loss that their sum counts with,
/// []; returns the sum of its losses, fp32 [], and leaves the gradient of that share in the logits, in any dtype.
using ChunkLoss = std::function<at::Tensor(at::Tensor& logits, const at::Tensor& labels, const at::Tensor& share)>;

/// `linear_cross_entropy` with a loss of one's own; `options.label_smoothing` is that loss's affair.
at::Tensor chunked_cross_entropy(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& bias,
                                 const at::Tensor& labels, const LinearCrossEntropyOptions& options,
                                 const ChunkLoss& chunk_loss);

}  // namespace transformers
