#pragma once

#include "utils/kernels/generic/elements.h"
#include "utils/kernels/integer.h"

namespace transformers::kernels {
namespace {

/// The bits of the largest magnitude. As integers, those of an infinity and of NaN are larger than all others.
[[gnu::always_inline]] inline int32_t largest_magnitude(const float* x, int64_t count) {
  int32_t largest = 0;
  for (int64_t i = 0; i < count; ++i) {
    const int32_t magnitude = __builtin_bit_cast(int32_t, x[i]) & 0x7fffffff;
    largest = magnitude > largest ? magnitude : largest;
  }
  return largest;
}

/// A group of which `count` elements exist and `size` are written.
[[gnu::always_inline]] inline void quantize_group(const float* x, int64_t count, int64_t size, int8_t* values,
                                                  float& scale, int32_t& sum) {
  constexpr float kSmallest = 127 * __FLT_MIN__;  // has a reciprocal
  constexpr float kRounder = 12582912.0F;         // 1.5 · 2^23: what is added to it loses its fraction
  const int32_t bits = largest_magnitude(x, count);
  const float magnitude = __builtin_bit_cast(float, bits), largest = magnitude < kSmallest ? kSmallest : magnitude;
  scale = bits < 0x7f800000 ? largest / 127 : __builtin_nanf("");
  const float factor = 127 / largest;
  int32_t total = 0;
  for (int64_t i = 0; i < count; ++i) {
    const float shifted = x[i] * factor + kRounder;
    const auto value =
        static_cast<int8_t>(__builtin_bit_cast(int32_t, shifted) - __builtin_bit_cast(int32_t, kRounder));
    values[i] = value;
    total += value;
  }
  for (int64_t i = count; i < size; ++i) {
    values[i] = 0;
  }
  sum = total;
}

inline void quantize_rows(const float* x, int64_t in, const IntegerRows& rows, int64_t begin, int64_t end) {
  const int64_t groups = rows.in / rows.group;
  for (int64_t row = begin; row < end; ++row) {
    for (int64_t g = 0; g < groups; ++g) {
      const int64_t first = g * rows.group, count = in - first < rows.group ? in - first : rows.group;
      quantize_group(x + row * in + first, count, rows.group, rows.values + row * rows.in + first,
                     rows.scales[row * groups + g], rows.sums[row * groups + g]);
    }
  }
}

}  // namespace
}  // namespace transformers::kernels
