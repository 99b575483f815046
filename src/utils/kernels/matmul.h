#pragma once

#include <cstdint>

#include "utils/kernels/kernels.h"

/// Matmuls of float32, bfloat16 and float16 matrices. Sums are float32 and rounded once, to the type of the operands.
///
/// The caller splits the outputs over its threads. An output is the same sum in the same order wherever the split lies,
/// so that results do not depend on the number of threads, and those of few rows not on the number of rows either.
namespace transformers::kernels {

/// The bits of an IEEE half-precision number.
enum class Float16Bits : uint16_t {};

/// Rows of float32 that `few_rows` reads are zero from their end up to a multiple of this.
constexpr int64_t kFewRowsPadding = 16;

/// Element (i, j) is data[i · row_stride + j · column_stride].
template <typename T>
struct Matrix {
  const T* data;
  int64_t rows, columns, row_stride, column_stride;
};

/// y = x · weightᵀ + bias for few rows of x. The weight may lie in a mapped file: its rows need no alignment, and
/// nothing behind its last element is read.
template <typename T>
struct FewRows {
  const float* x;  // [rows, in padded with zeros]
  int64_t rows, in;
  const T* weight;  // [out, in], rows weight_stride apart
  int64_t weight_stride;
  const T* bias;  // [out] or null
  T* y;           // [rows, out], rows y_stride apart
  int64_t y_stride;
};

/// y = left · right + bias for many rows.
template <typename T>
struct ManyRows {
  const float* left;  // [rows, inner] as pack_left() makes it
  int64_t rows;
  Matrix<T> right;  // [inner, columns]
  const T* bias;    // [columns] or null
  T* y;             // [rows, columns], rows y_stride apart
  int64_t y_stride;
};

/// A range of panels of rows and a range of columns.
struct Block {
  int64_t panel_begin, panel_end, column_begin, column_end;
};

template <typename T>
struct MatmulKernels {
  void (*to_float)(const T* x, int64_t count, float* y);

  /// Outputs [begin, end) of all rows. Every row of the weight is read from memory once.
  void (*few_rows)(const FewRows<T>& product, int64_t begin, int64_t end);

  /// Number of panels in which this many rows are multiplied.
  int64_t (*panels)(int64_t rows);
  /// Converts panels [begin, end) of `left` [rows, inner] to float32 in the order in which they are read.
  void (*pack_left)(const Matrix<T>& left, int64_t begin, int64_t end, float* packed);
  /// Floats of the workspace of `many_rows`, of which each thread has its own. It is best aligned to 64 bytes.
  int64_t workspace_size;
  /// Outputs of a block. The part of `right` in use is converted to float32 in the workspace, piece by piece.
  void (*many_rows)(const ManyRows<T>& product, const Block& block, float* workspace);
};

/// The table of a level that this machine supports. T: float, BFloat16Bits or Float16Bits.
template <typename T>
const MatmulKernels<T>& matmul_kernels(Level level = active_level());

}  // namespace transformers::kernels
