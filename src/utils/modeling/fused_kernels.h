#pragma once

#include <cstdint>

/// Loops over plain memory that do in one pass what ATen does in several. T is float, or the bits of a bfloat16; sums
/// and exponentials are float. A bfloat16 result is rounded after each step at which ATen would write a tensor.
namespace transformers::kernels {

using BFloat16Bits = uint16_t;

/// y = weight · (x · rsqrt(mean x² + eps)) for rows [begin, end) of [rows, columns]; `scales` [rows] gets the rsqrt.
template <typename T>
void rms_norm(const T* x, const T* weight, int64_t columns, double eps, int64_t begin, int64_t end, T* y,
              float* scales);
/// The gradient of the same rows; `grad_weight` [columns] is added to.
template <typename T>
void rms_norm_backward(const T* grad, const T* x, const T* weight, const float* scales, int64_t columns, int64_t begin,
                       int64_t end, T* grad_x, float* grad_weight);

/// y = silu(gate) · up for elements [begin, end).
template <typename T>
void silu_and_mul(const T* gate, const T* up, int64_t begin, int64_t end, T* y);
template <typename T>
void silu_and_mul_backward(const T* grad, const T* gate, const T* up, int64_t begin, int64_t end, T* grad_gate,
                           T* grad_up);

/// HF's `gelu_new`: x/2 · (1 + tanh(sqrt(2/π) · (x + 0.044715 x³))) for elements [begin, end).
template <typename T>
void gelu_new(const T* x, int64_t begin, int64_t end, T* y);
template <typename T>
void gelu_new_backward(const T* grad, const T* x, int64_t begin, int64_t end, T* grad_x);

/// Rotates the pairs (i, i + dim/2) of one vector [dim] by the angles of `cos` and `sin` [dim]; `back` by their
/// negatives, which is the gradient.
template <typename T>
void rotate_halves(const T* x, const T* cos, const T* sin, int64_t dim, bool back, T* y);
/// Rotates the pairs (2i, 2i + 1) of the first `rotary_dim` elements by `cos` and `sin` [rotary_dim / 2] and copies the
/// rest of `dim`.
template <typename T>
void rotate_neighbours(const T* x, const T* cos, const T* sin, int64_t rotary_dim, int64_t dim, bool back, T* y);

/// Cross-entropy of logits [rows, columns] for rows [begin, end): `losses` [rows] gets each row's, and the
/// logits become its gradient times `share`. A row whose label is `ignored` has loss and gradient 0.
struct CrossEntropyRule {
  int64_t ignored;
  double smoothing;  // share of the target spread over all columns
  double share;
};
template <typename T>
void cross_entropy(T* logits, const int64_t* labels, int64_t columns, const CrossEntropyRule& rule, int64_t begin,
                   int64_t end, float* losses);

/// sum += addend for elements [begin, end).
template <typename T>
void add(const T* addend, int64_t begin, int64_t end, float* sum);

}  // namespace transformers::kernels
