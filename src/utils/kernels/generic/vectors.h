#pragma once

#ifdef __AVX2__
#include <immintrin.h>
#endif

#include <utility>

#include "utils/kernels/generic/elements.h"
#include "utils/kernels/matmul.h"

// Vectors as wide as the registers of the instruction set, as the language extension that GCC and Clang share.
namespace transformers::kernels {
namespace {

#ifdef __AVX512F__
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

using Floats __attribute__((vector_size(4 * kLanes))) = float;
using Words __attribute__((vector_size(4 * kLanes))) = uint32_t;

/// Reads from any address.
template <typename Vector>
[[gnu::always_inline]] inline Vector read(const void* from) {
  Vector vector;
  __builtin_memcpy(&vector, from, sizeof vector);
  return vector;
}

[[gnu::always_inline]] inline void write(float* to, Floats vector) { __builtin_memcpy(to, &vector, sizeof vector); }

[[gnu::always_inline]] inline Floats as_floats(Words bits) { return __builtin_bit_cast(Floats, bits); }
[[gnu::always_inline]] inline Words as_words(Floats values) { return __builtin_bit_cast(Words, values); }

/// Halves in the low 16 bits. Their exponent is rebiased as an integer; an infinity's or NaN's goes on to the largest
/// exponent, and a denormal becomes a normal number from which its hidden bit is subtracted: no denormal float occurs.
[[gnu::always_inline]] inline Floats floats_of_halves(Words halves) {
  const Words sign = (halves & 0x8000U) << 16, magnitude = (halves & 0x7fffU) << 13;
  const Words exponent = magnitude & 0x0f800000U;
  const auto infinite = reinterpret_cast<Words>(exponent == 0x0f800000U);
  const auto denormal = reinterpret_cast<Words>(exponent == 0U);
  const Words rebased = magnitude + 0x38000000U + (infinite & 0x38000000U);
  const Floats small = as_floats(magnitude + 0x38800000U) - 0x1p-14F;
  return as_floats((as_words(small) & denormal) | (rebased & ~denormal) | sign);
}

/// The next kLanes integers of 16 bits. GCC 12 makes four instructions of a __builtin_convertvector to wide registers,
/// and takes the intrinsics of AVX-512 without a mask for uses of an uninitialised variable.
[[gnu::always_inline]] inline Words load_words(const void* from) {
#ifdef __AVX512F__
  return reinterpret_cast<Words>(_mm512_maskz_cvtepu16_epi32(0xffff, read<__m256i>(from)));
#elif defined(__AVX2__)
  return reinterpret_cast<Words>(_mm256_cvtepu16_epi32(read<__m128i>(from)));
#else
  using Halves __attribute__((vector_size(2 * kLanes))) = uint16_t;
  return __builtin_convertvector(read<Halves>(from), Words);
#endif
}

/// The next kLanes elements as floats.
[[gnu::always_inline]] inline Floats load_floats(const float* from) { return read<Floats>(from); }
[[gnu::always_inline]] inline Floats load_floats(const BFloat16Bits* from) { return as_floats(load_words(from) << 16); }
[[gnu::always_inline]] inline Floats load_floats(const Float16Bits* from) {
#ifdef __AVX512F__
  return reinterpret_cast<Floats>(_mm512_maskz_cvtph_ps(0xffff, read<__m256i>(from)));
#elif defined(__F16C__)
  return reinterpret_cast<Floats>(_mm256_cvtph_ps(read<__m128i>(from)));
#else
  return floats_of_halves(load_words(from));
#endif
}

/// The sum of all lanes, in pairs.
[[gnu::always_inline]] inline float sum_of(Floats vector) {
  using Four __attribute__((vector_size(16))) = float;
  Four parts[kLanes / 4];
  __builtin_memcpy(parts, &vector, sizeof vector);
  for (int width = kLanes / 8; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) {
      parts[i] += parts[i + width];
    }
  }
  return (parts[0][0] + parts[0][2]) + (parts[0][1] + parts[0][3]);
}

[[gnu::always_inline]] inline float load(Float16Bits bits) {
  const auto half = static_cast<uint32_t>(bits), magnitude = (half & 0x7fffU) << 13, sign = (half & 0x8000U) << 16;
  if (magnitude < 0x00800000U) {
    const float value = __builtin_bit_cast(float, magnitude + 0x38800000U) - 0x1p-14F;
    return sign != 0 ? -value : value;
  }
  const uint32_t bias = magnitude >= 0x0f800000U ? 0x70000000U : 0x38000000U;
  return __builtin_bit_cast(float, (magnitude + bias) | sign);
}

/// Rounds to the nearest half, ties to even.
[[gnu::always_inline]] inline Float16Bits float16_bits(float value) {
  const auto bits = __builtin_bit_cast(uint32_t, value), magnitude = bits & 0x7fffffffU, sign = (bits >> 16) & 0x8000U;
  uint32_t rounded = (magnitude - 0x38000000U + 0xfffU + ((magnitude >> 13) & 1U)) >> 13;
  if (magnitude > 0x7f800000U) {
    rounded = 0x7e00;
  } else if (magnitude >= 0x477ff000U) {  // 65520, half way to what would be the next half
    rounded = 0x7c00;
  } else if (magnitude < 0x38800000U) {
    // One unit in the last place of 0.5 is the smallest denormal half.
    rounded = __builtin_bit_cast(uint32_t, __builtin_bit_cast(float, magnitude) + 0.5F) - 0x3f000000U;
  }
  return static_cast<Float16Bits>(rounded | sign);
}

[[gnu::always_inline]] inline void store(Float16Bits& place, float value) { place = float16_bits(value); }

}  // namespace
}  // namespace transformers::kernels
