#pragma once

#include <ATen/core/Tensor.h>

/// Steps of a block as single operations, like at::dropout(input, p, train). With `training`, an operation runs a
/// kernel of utils/kernels if there is one (for float32 or bfloat16 tensors of one dtype on the CPU), with one pass
/// over memory for forward and one for backward. Otherwise, after set_kernels(false), and for gradients of gradients,
/// it is composed of LibTorch's operations, so that results equal Python's bit by bit. The two forms differ by the
/// order of sums. A bfloat16 result is rounded wherever LibTorch would write a tensor, except within the norm's
/// gradient.
namespace transformers::functional {

/// weight · (x · rsqrt(mean x² + eps)). x: [..., features]; weight: [features].
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps, bool training);

/// silu(gate) · up, both of one shape. While no gradients are recorded, a gate that was moved in and that nobody else
/// holds may be overwritten.
at::Tensor silu_and_mul(at::Tensor gate, const at::Tensor& up, bool training);

/// HF's `gelu_new`.
at::Tensor gelu_new(const at::Tensor& x, bool training);

/// Rotates the pairs (i, i + dim/2), LLaMA's layout. x: [batch, heads, seq, dim]; cos, sin: [batch or 1, seq, dim].
at::Tensor rotate_halves(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, bool training);

/// Rotates the pairs (2i, 2i + 1) of the first rotary_dim elements, GPT-J's layout. x: [batch, seq, heads, dim]; cos,
/// sin: [batch or 1, seq, rotary_dim / 2].
at::Tensor rotate_interleaved(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, bool training);

/// Cross-entropy of each row, float32 [rows], whose logits [rows, classes] become its gradient times `share` []; where
/// there is no kernel they become float32 first. labels: int64 [rows] in [0, classes) or −100, which has loss and
/// gradient 0. `smoothing` is the share of the target that is spread over all classes. Not recorded by autograd.
at::Tensor cross_entropy_(at::Tensor& logits, const at::Tensor& labels, double smoothing, const at::Tensor& share);

/// sum += addend, of one shape; a float32 sum takes a bfloat16 addend without the float32 copy that LibTorch makes. Not
/// recorded by autograd.
void add_(at::Tensor& sum, const at::Tensor& addend);

}  // namespace transformers::functional
