#pragma once

#include <ATen/core/Tensor.h>

/// Steps of a block as one operation each, forward and backward in one pass over memory: what the blocks use while they
/// train. In eval mode they compose the same steps of LibTorch's operations, whose bits are Python's; the two differ by
/// the order of sums. A bfloat16 result is rounded wherever LibTorch would write a tensor, except within the norm's
/// gradient. Gradients of gradients go through the composed steps.
namespace transformers::fused {

/// Whether there are loops for these tensors: float32 or bfloat16 all, on the CPU.
bool applies(at::TensorList tensors);

/// weight · (x · rsqrt(mean x² + eps)). x: [..., features]; weight: [features].
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps);

/// silu(gate) · up, both of one shape.
at::Tensor silu_and_mul(const at::Tensor& gate, const at::Tensor& up);

/// HF's `gelu_new`.
at::Tensor gelu_new(const at::Tensor& x);

/// The pairing (i, i + dim/2) of LLaMA. x: [batch, heads, seq, dim]; cos, sin: [batch or 1, seq, dim].
at::Tensor rotate_halves(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin);

/// The pairing (2i, 2i + 1) of GPT-J within the first rotary_dim elements. x: [batch, seq, heads, dim]; cos, sin:
/// [batch or 1, seq, rotary_dim / 2].
at::Tensor rotate_neighbours(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin);

/// Cross-entropy of each row, float32 [rows], whose logits [rows, classes] become its gradient times `share`. labels:
/// int64 [rows] in [0, classes) or −100, which has loss and gradient 0. `smoothing` is the share of the target that is
/// spread over all classes. No part of a graph.
at::Tensor cross_entropy_(at::Tensor& logits, const at::Tensor& labels, double smoothing, double share);

/// sum += addend, without the float32 copy of a bfloat16 addend that LibTorch makes. sum: float32; both contiguous and
/// of one shape. No part of a graph.
void add_(const at::Tensor& sum, const at::Tensor& addend);

}  // namespace transformers::fused
