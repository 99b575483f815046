#pragma once

#include <ATen/core/Tensor.h>

namespace transformers {

/// Whether dnn_linear is faster here: `at::linear` in float32 with oneDNN, for the forward and the gradient of the
/// input in training. LibTorch uses MKL, which is slower on processors of other vendors than Intel. The results differ
/// only by the order of sums.
bool dnn_linear_is_faster(const at::Tensor& input, const at::Tensor& weight);
/// Call it only where dnn_linear_is_faster() holds. input: [..., in]; weight: [out, in]; bias: [out] or undefined.
at::Tensor dnn_linear(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias);

}  // namespace transformers
