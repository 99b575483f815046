#pragma once

#include <ATen/core/Tensor.h>

/// The operations of functional.h composed step by step of LibTorch's operations, so that results equal Python's bit by
/// bit. They are used in eval mode, on other devices, for other dtypes and for gradients of gradients. The arguments
/// are the same.
namespace transformers::composed {

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps);
at::Tensor silu_and_mul(const at::Tensor& gate, const at::Tensor& up);
at::Tensor gelu_new(const at::Tensor& x);
at::Tensor rotate_halves(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin);
at::Tensor rotate_interleaved(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin);
at::Tensor cross_entropy_(at::Tensor& logits, const at::Tensor& labels, double smoothing, const at::Tensor& share);

}  // namespace transformers::composed
