#pragma once

#ifdef __SSE2__
#include <immintrin.h>
#endif

#include "utils/kernels/generic/vectors.h"

// Dot products of four neighbouring bytes, for as many outputs as a vector has lanes. A vector of weights is prepared
// once and used for all rows.
namespace transformers::kernels {
namespace {

using Ints __attribute__((vector_size(4 * kLanes))) = int32_t;
using Bytes __attribute__((vector_size(4 * kLanes))) = int8_t;
using Shorts __attribute__((vector_size(4 * kLanes))) = int16_t;

/// Vectors of a block of 16 outputs.
constexpr int kVectors = 16 / kLanes;
constexpr int64_t kVectorOutputs = kLanes, kVectorBytes = 4 * kVectorOutputs;

[[gnu::always_inline]] inline int32_t four_bytes(const int8_t* from) {
  int32_t bytes = 0;
  __builtin_memcpy(&bytes, from, sizeof bytes);
  return bytes;
}

#ifdef __AVX512VNNI__

/// The weights that are multiplied are larger by this: the instruction takes one operand as unsigned.
constexpr int32_t kInt8Offset = 128;

using Int8Vector = __m512i;
using NibbleSums = Ints;
/// Inputs whose products fit into NibbleSums; 0: all of a group.
constexpr int64_t kNibbleInputs = 0;

[[gnu::always_inline]] inline Int8Vector prepared_int8(Bytes weights) {
  return reinterpret_cast<__m512i>(weights ^ -128);
}

[[gnu::always_inline]] inline Ints add_int8(Ints sums, Int8Vector weights, int32_t x) {
  return reinterpret_cast<Ints>(_mm512_dpbusd_epi32(reinterpret_cast<__m512i>(sums), weights, _mm512_set1_epi32(x)));
}

[[gnu::always_inline]] inline NibbleSums add_nibbles(NibbleSums sums, Bytes weights, int32_t x) {
  return add_int8(sums, reinterpret_cast<__m512i>(weights), x);
}

#elif defined(__AVX2__)

// vpmaddubsw adds pairs of products of unsigned and signed bytes as int16. 2 · 127 · 127 fits, and so do the eight sums
// of 2 · 15 · 127 that 32 int4 weights make.
constexpr int32_t kInt8Offset = 0;

#ifdef __AVX512F__
using Register = __m512i;
struct Int8Vector {
  Register magnitudes;
  __mmask64 negative;
};
[[gnu::always_inline]] inline Register broadcast(int32_t x) { return _mm512_set1_epi32(x); }
[[gnu::always_inline]] inline Register pairs(Register unsigned_bytes, Register signed_bytes) {
  return _mm512_maddubs_epi16(unsigned_bytes, signed_bytes);
}
[[gnu::always_inline]] inline Register pairs_of_pairs(Register sums) {
  return _mm512_madd_epi16(sums, _mm512_set1_epi16(1));
}
[[gnu::always_inline]] inline Int8Vector prepared_int8(Bytes weights) {
  const auto bytes = reinterpret_cast<Register>(weights);
  return {_mm512_maskz_abs_epi8(~__mmask64{0}, bytes), _mm512_movepi8_mask(bytes)};
}
[[gnu::always_inline]] inline Register with_signs(const Int8Vector& weights, Register x) {
  return _mm512_mask_sub_epi8(x, weights.negative, _mm512_setzero_si512(), x);
}
#else
using Register = __m256i;
struct Int8Vector {
  Register magnitudes, weights;
};
[[gnu::always_inline]] inline Register broadcast(int32_t x) { return _mm256_set1_epi32(x); }
[[gnu::always_inline]] inline Register pairs(Register unsigned_bytes, Register signed_bytes) {
  return _mm256_maddubs_epi16(unsigned_bytes, signed_bytes);
}
[[gnu::always_inline]] inline Register pairs_of_pairs(Register sums) {
  return _mm256_madd_epi16(sums, _mm256_set1_epi16(1));
}
[[gnu::always_inline]] inline Int8Vector prepared_int8(Bytes weights) {
  const auto bytes = reinterpret_cast<Register>(weights);
  return {_mm256_abs_epi8(bytes), bytes};
}
[[gnu::always_inline]] inline Register with_signs(const Int8Vector& weights, Register x) {
  return _mm256_sign_epi8(x, weights.weights);
}
#endif

using NibbleSums = Shorts;
constexpr int64_t kNibbleInputs = 32;

[[gnu::always_inline]] inline Ints add_int8(Ints sums, const Int8Vector& weights, int32_t x) {
  return sums + reinterpret_cast<Ints>(pairs_of_pairs(pairs(weights.magnitudes, with_signs(weights, broadcast(x)))));
}

[[gnu::always_inline]] inline NibbleSums add_nibbles(NibbleSums sums, Bytes weights, int32_t x) {
  return sums + reinterpret_cast<Shorts>(pairs(reinterpret_cast<Register>(weights), broadcast(x)));
}

[[gnu::always_inline]] inline Ints total_of(NibbleSums sums) {
  return reinterpret_cast<Ints>(pairs_of_pairs(reinterpret_cast<Register>(sums)));
}

#else

constexpr int32_t kInt8Offset = 0;

using NibbleSums = Ints;
constexpr int64_t kNibbleInputs = 0;

#ifdef __SSE2__
struct Int8Vector {
  __m128i low, high;  // as int16
};

[[gnu::always_inline]] inline Int8Vector prepared_int8(Bytes weights) {
  const auto bytes = reinterpret_cast<__m128i>(weights), signs = reinterpret_cast<__m128i>(weights < 0);
  return {_mm_unpacklo_epi8(bytes, signs), _mm_unpackhi_epi8(bytes, signs)};
}

[[gnu::always_inline]] inline Ints add_int8(Ints sums, const Int8Vector& weights, int32_t x) {
  const auto four = prepared_int8(reinterpret_cast<Bytes>(_mm_set1_epi32(x))).low;
  const auto low = reinterpret_cast<__m128>(_mm_madd_epi16(weights.low, four));
  const auto high = reinterpret_cast<__m128>(_mm_madd_epi16(weights.high, four));
  return sums + reinterpret_cast<Ints>(_mm_shuffle_ps(low, high, 0x88)) +
         reinterpret_cast<Ints>(_mm_shuffle_ps(low, high, 0xdd));
}
#else
using Int8Vector = Bytes;

[[gnu::always_inline]] inline Int8Vector prepared_int8(Bytes weights) { return weights; }

[[gnu::always_inline]] inline Ints add_int8(Ints sums, Int8Vector weights, int32_t x) {
  int8_t w[4 * kLanes], four[4];
  __builtin_memcpy(w, &weights, sizeof w);
  __builtin_memcpy(four, &x, sizeof four);
  for (int lane = 0; lane < kLanes; ++lane) {
    for (int i = 0; i < 4; ++i) {
      sums[lane] += w[4 * lane + i] * four[i];
    }
  }
  return sums;
}
#endif

[[gnu::always_inline]] inline NibbleSums add_nibbles(NibbleSums sums, Bytes weights, int32_t x) {
  return add_int8(sums, prepared_int8(weights), x);
}

#endif

}  // namespace
}  // namespace transformers::kernels
