#pragma once

#include "utils/kernels/generic/elements.h"
#include "utils/kernels/integer.h"

namespace transformers::kernels {
namespace {

constexpr int32_t kInfinityBits = 0x7f800000;
constexpr float kSmallestMagnitude = 127 * __FLT_MIN__;  // whose scale has a reciprocal

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
  constexpr float kRounder = 12582912.0F;  // 1.5 · 2^23: what is added to it loses its fraction
  const int32_t bits = largest_magnitude(x, count);
  const float magnitude = __builtin_bit_cast(float, bits),
              largest = magnitude < kSmallestMagnitude ? kSmallestMagnitude : magnitude;
  scale = bits < kInfinityBits ? largest / 127 : __builtin_nanf("");
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

inline bool round_int8(const float* weights, int64_t count, int8_t* codes, float* scale) {
  const int32_t bits = largest_magnitude(weights, count);
  const auto magnitude = __builtin_bit_cast(float, bits);
  const float largest = magnitude < kSmallestMagnitude ? kSmallestMagnitude : magnitude;
  *scale = largest / 127;
  const float factor = 1 / *scale;
  for (int64_t i = 0; i < count; ++i) {
    const float code = __builtin_rintf(weights[i] * factor);
    codes[i] = static_cast<int8_t>(static_cast<int32_t>(code < -127 ? -127 : code > 127 ? 127 : code));
  }
  return bits < kInfinityBits;
}

inline void round_int4(const float* weights, int64_t count, uint8_t* codes, BFloat16Bits* scale, BFloat16Bits* zero) {
  float smallest = weights[0], largest = weights[0];
  for (int64_t i = 1; i < count; ++i) {
    smallest = weights[i] < smallest ? weights[i] : smallest;
    largest = weights[i] > largest ? weights[i] : largest;
  }
  const float range = largest - smallest, step = (range < 1e-6F ? 1e-6F : range) / 15;
  *scale = bfloat16_bits(step);
  *zero = bfloat16_bits(smallest + step * 8);
  const float divisor = load(*scale), base = load(*zero) - divisor * 8;
  for (int64_t i = 0; i < count; ++i) {
    const float code = __builtin_rintf((weights[i] - base) / divisor);
    codes[i] = static_cast<uint8_t>(static_cast<int32_t>(code < 0 ? 0 : code > 15 ? 15 : code));
  }
}

}  // namespace
}  // namespace transformers::kernels
