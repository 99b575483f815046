#pragma once

#include <cstdint>

#include "utils/kernels/kernels.h"

/// Matmuls of quantised weights with quantised activations. Products are summed as integers, exactly, and scaled as
/// float32: once an output for int8, once a group for int4.
///
/// Weights are interleaved, so that one vector of weights belongs to 16 outputs and is multiplied with the same few
/// activations. The caller splits the outputs over its threads by blocks of 16; results depend neither on that split
/// nor on the number of rows.
namespace transformers::kernels {

/// Outputs of a block. The weights of outputs that do not exist are zero.
constexpr int64_t kBlockOutputs = 16;
/// Inputs that lie together for each output of a block: a weight's row is padded with zeros to a multiple.
constexpr int64_t kInt8Inputs = 4, kInt4Inputs = 8;
/// Longer rows could overflow a sum of int32.
constexpr int64_t kMaxIntegerInputs = int64_t{1} << 17;

/// Rows of activations: value = values · scale of its group. A group holds -127 to 127 and at least one of both, or
/// zeros. Where an element of a group is infinite or NaN, its scale is NaN.
struct IntegerRows {
  int8_t* values;  // [rows, in]
  float* scales;   // [rows, in / group]
  int32_t* sums;   // [rows, in / group]: of the values of a group
  int64_t rows, in, group;
};

/// int8, -127 to 127: [out / 16, in / 4, 16, 4], both rounded up, with one scale for each output.
struct InterleavedInt8 {
  const int8_t* values;
  const float* scales;  // [out rounded up]
  int64_t out;
};

/// int4: [out / 16, in / 8, 16, 4] bytes. The low halves are inputs 0 to 3 of 8, the high halves 4 to 7. Scales and
/// zero points: [out / 16, in / group, 16]; value = (q - 8) · scale + zero.
struct InterleavedInt4 {
  const uint8_t* values;
  const BFloat16Bits* scales;
  const BFloat16Bits* zeros;  // null if they are zero
  int64_t out;
};

struct IntegerKernels {
  /// Rounds a row of `count` weights: value = code · scale. Returns whether all were finite.
  bool (*round_int8)(const float* weights, int64_t count, int8_t* codes, float* scale);
  /// Rounds a group of `count` weights: value = (code - 8) · scale + zero. All have to be finite.
  void (*round_int4)(const float* weights, int64_t count, uint8_t* codes, BFloat16Bits* scale, BFloat16Bits* zero);

  /// Quantises rows [begin, end) of x [rows, in], whose groups each are scaled by their largest magnitude. `in` may be
  /// less than `rows.in`; what follows is zero.
  void (*quantize_rows)(const float* x, int64_t in, const IntegerRows& rows, int64_t begin, int64_t end);

  /// Outputs of blocks [begin, end) of all rows. y: [rows, out]. Rows are one group each.
  void (*int8_blocks)(const IntegerRows& x, const InterleavedInt8& weight, int64_t begin, int64_t end, float* y);
  /// The same. The group is a multiple of 8 and also that of the weight.
  void (*int4_blocks)(const IntegerRows& x, const InterleavedInt4& weight, int64_t begin, int64_t end, float* y);
};

/// The table of a level that this machine supports.
const IntegerKernels& integer_kernels(Level level = active_level());

}  // namespace transformers::kernels
