#pragma once

#include <cstdint>

#include "utils/kernels/kernels.h"

// Elements and the functions of one element that all kernels share.
//
// The headers of this folder are compiled several times, each time for another instruction set, and linked into one
// library. A function with external linkage would be merged by the linker, which keeps any one copy: the baseline could
// then run AVX-512 code. Therefore everything here is in an unnamed namespace, and nothing of the standard library that
// is a template or inline is called (std::sqrt, std::bit_cast, std::max): only built-ins and functions of the C
// library.
namespace transformers::kernels {
namespace {

[[gnu::always_inline]] inline float load(float value) { return value; }
[[gnu::always_inline]] inline float load(BFloat16Bits bits) {
  return __builtin_bit_cast(float, static_cast<uint32_t>(bits) << 16);
}

/// Rounds to the nearest bfloat16, ties to even.
[[gnu::always_inline]] inline BFloat16Bits bfloat16_bits(float value) {
  const auto bits = __builtin_bit_cast(uint32_t, value);
  const auto rounded = static_cast<BFloat16Bits>((bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16);
  return value != value ? BFloat16Bits{0x7fc0} : rounded;
}

[[gnu::always_inline]] inline void store(float& place, float value) { place = value; }
[[gnu::always_inline]] inline void store(BFloat16Bits& place, float value) { place = bfloat16_bits(value); }

/// The value as a tensor of T would hold it.
template <typename T>
[[gnu::always_inline]] inline float rounded(float value) {
  if constexpr (sizeof(T) == sizeof(float)) {
    return value;
  } else {
    return load(bfloat16_bits(value));
  }
}

/// e^x to 2 units in the last place; NaN stays NaN. The range is split at multiples of log 2, the rest is Cephes'
/// polynomial of degree 6.
[[gnu::always_inline]] inline float exponential(float x) {
  x = x < -87.33654F ? -87.33654F : x;
  x = x > 88.37626F ? 88.37626F : x;
  constexpr float kRounder = 12582912.0F;  // 1.5 · 2^23: what is added to it loses its fraction
  const float n = (x * 1.44269504F + kRounder) - kRounder;
  const float r = (x - n * 0.693359375F) + n * 2.12194440e-4F;
  float p = 1.9875691500e-4F;
  p = p * r + 1.3981999507e-3F;
  p = p * r + 8.3334519073e-3F;
  p = p * r + 4.1665795894e-2F;
  p = p * r + 1.6666665459e-1F;
  p = p * r + 5.0000001201e-1F;
  p = p * (r * r) + r + 1.0F;
  return p * __builtin_bit_cast(float, (static_cast<int32_t>(n) + 127) << 23);
}

[[gnu::always_inline]] inline float sigmoid(float x) { return 1.0F / (1.0F + exponential(-x)); }
[[gnu::always_inline]] inline float tanh_of(float x) { return 1.0F - 2.0F / (exponential(2.0F * x) + 1.0F); }

}  // namespace
}  // namespace transformers::kernels
