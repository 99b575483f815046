#pragma once

#include <ATen/core/Tensor.h>

namespace transformers {

/// `at::linear` in float32 by oneDNN, forward and towards the input, for training: LibTorch takes MKL, which is slower
/// on processors that are not Intel's. Equal to it but for the order of sums.
bool dnn_linear_is_faster(const at::Tensor& input, const at::Tensor& weight);
/// Where the above says so. input: [..., in]; weight: [out, in]; bias: [out] or undefined.
at::Tensor dnn_linear(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias);

namespace functional {

/// `at::linear`, or in training the above where that is faster.
at::Tensor linear(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias, bool training);

}  // namespace functional

}  // namespace transformers
