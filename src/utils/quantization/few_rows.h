#pragma once

#include <cstdint>

namespace transformers {

/// int8 [out, in] with a scale a row.
struct Int8Weight {
  const int8_t* values;
  const float* scales;
  int64_t in;
};

/// Two int4 a byte [out, in / 2] with a scale and a zero a group; those as bf16 bits [out, in / group].
struct Int4Weight {
  const uint8_t* values;
  const uint16_t* scales;
  const uint16_t* zeros;
  int64_t in, group;
};

/// output[row, o] = input[row] . weight[o] for o in [begin, end). input: [rows, in]; output: [rows, out].
void multiply(const Int8Weight& weight, const float* input, int64_t rows, int64_t begin, int64_t end, float* output,
              int64_t out);
/// The same. `input` has each group's even places before its odd ones; `group_sums`: [rows, in / group].
void multiply(const Int4Weight& weight, const float* input, const float* group_sums, int64_t rows, int64_t begin,
              int64_t end, float* output, int64_t out);

}  // namespace transformers
