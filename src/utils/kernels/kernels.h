#pragma once

#include <cstdint>

#include "utils/kernels/level.h"

/// The hand-written loops over plain memory. T is float, or the bits of a bfloat16; sums and exponentials are float.
///
/// Each algorithm is written once, in generic/, and compiled for several instruction sets. The functions of one
/// instruction set are in a table; callers ask for the table of the level in use and call through it. Tensors, threads,
/// gradients and the choice between a kernel and LibTorch's operations are the business of the callers, in
/// utils/modeling and utils/quantization.
///
///     const auto& table = kernels::training_kernels<float>();
///     parallel_for(0, count, grain_size, [&](int64_t begin, int64_t end) {
///       table.gelu_new(x + begin, end - begin, y + begin);
///     });
namespace transformers::kernels {

using BFloat16Bits = uint16_t;

/// x, y: [rows, columns]; weight: [columns].
template <typename T>
struct RmsNorm {
  const T *x, *weight;
  int64_t rows, columns;
  double eps;
  T* y;
  float* scales;  // [rows] gets 1 / sqrt(mean x² + eps)
};

/// grad, x, grad_x: [rows, columns]; weight: [columns].
template <typename T>
struct RmsNormBackward {
  const T *grad, *x, *weight;
  const float* scales;  // [rows], as the forward left them
  int64_t rows, columns;
  T* grad_x;
  float* grad_weight;  // [columns], is added to
};

struct CrossEntropyRule {
  int64_t ignored;   // rows with this label have loss and gradient 0
  double smoothing;  // share of the target spread over all columns
  double share;      // factor of the gradient
};

/// Operations of training in one pass over memory, where ATen needs several. A bfloat16 result is rounded after each
/// step at which ATen would write a tensor, except within the norm's gradient.
template <typename T>
struct TrainingKernels {
  /// y = weight · (x · rsqrt(mean x² + eps)).
  void (*rms_norm)(const RmsNorm<T>& norm);
  void (*rms_norm_backward)(const RmsNormBackward<T>& norm);

  /// y = silu(gate) · up for `count` elements.
  void (*silu_and_mul)(const T* gate, const T* up, int64_t count, T* y);
  void (*silu_and_mul_backward)(const T* grad, const T* gate, const T* up, int64_t count, T* grad_gate, T* grad_up);

  /// HF's `gelu_new`: x/2 · (1 + tanh(sqrt(2/π) · (x + 0.044715 x³))) for `count` elements.
  void (*gelu_new)(const T* x, int64_t count, T* y);
  void (*gelu_new_backward)(const T* grad, const T* x, int64_t count, T* grad_x);

  /// Rotates the pairs (i, i + dim/2) of one vector [dim] by the angles of `cos` and `sin` [dim]; `back` by their
  /// negatives, which is the gradient.
  void (*rotate_halves)(const T* x, const T* cos, const T* sin, int64_t dim, bool back, T* y);
  /// Rotates the pairs (2i, 2i + 1) of the first `rotary_dim` elements by `cos` and `sin` [rotary_dim / 2] and copies
  /// the rest of `dim`.
  void (*rotate_interleaved)(const T* x, const T* cos, const T* sin, int64_t rotary_dim, int64_t dim, bool back, T* y);

  /// Cross-entropy of logits [rows, columns]: `losses` [rows] gets the loss of each row, and the logits are replaced by
  /// its gradient.
  void (*cross_entropy)(T* logits, const int64_t* labels, int64_t rows, int64_t columns, const CrossEntropyRule& rule,
                        float* losses);

  /// sum += addend for `count` elements.
  void (*add)(const T* addend, int64_t count, float* sum);
};

/// int8 [out, in] with one scale per row.
struct Int8Weight {
  const int8_t* values;
  const float* scales;
  int64_t out, in;
};

/// Two int4 per byte, [out, in / 2], with one scale and one zero point per group, bfloat16 [out, in / group].
struct Int4Weight {
  const uint8_t* values;
  const BFloat16Bits *scales, *zeros;
  int64_t out, in, group;
};

/// Matmuls of a few rows with a quantised weight, which is read once and never dequantised in full.
struct QuantizedKernels {
  /// output[row, o] = input[row] · weight[o] for o in [begin, end). input: [rows, in]; output: [rows, out].
  void (*int8_matmul)(const Int8Weight& weight, const float* input, int64_t rows, int64_t begin, int64_t end,
                      float* output);
  /// The same. In `input`, the elements at even positions of each group come before those at odd positions;
  /// `group_sums`: [rows, in / group].
  void (*int4_matmul)(const Int4Weight& weight, const float* input, const float* group_sums, int64_t rows,
                      int64_t begin, int64_t end, float* output);
};

/// The table of a level that this machine supports. T: float or BFloat16Bits.
template <typename T>
const TrainingKernels<T>& training_kernels(Level level = active_level());
const QuantizedKernels& quantized_kernels(Level level = active_level());

}  // namespace transformers::kernels
