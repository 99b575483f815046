#pragma once

#include "utils/kernels/generic/vectors.h"
#include "utils/kernels/tables.h"

namespace transformers::kernels {
namespace {

inline void int8_matmul(const Int8Weight& weight, const float* input, int64_t rows, int64_t begin, int64_t end,
                        float* output) {
  for (int64_t o = begin; o < end; ++o) {
    const int8_t* values = weight.values + o * weight.in;
    for (int64_t row = 0; row < rows; ++row) {
      const float* x = input + row * weight.in;
      float sum = 0;
      for (int64_t i = 0; i < weight.in; ++i) {
        sum += x[i] * static_cast<float>(values[i]);
      }
      output[row * weight.out + o] = sum * weight.scales[o];
    }
  }
}

using Integers __attribute__((vector_size(4 * kLanes))) = int32_t;

/// The next kLanes bytes. Left to itself the compiler reads more bytes at once than a small group has.
[[gnu::always_inline]] inline Words load_bytes(const uint8_t* from) {
#if defined(__AVX512F__)
  return reinterpret_cast<Words>(_mm512_maskz_cvtepu8_epi32(0xffff, read<__m128i>(from)));
#elif defined(__AVX2__)
  return reinterpret_cast<Words>(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from))));
#else
  using Part __attribute__((vector_size(kLanes))) = uint8_t;
  return __builtin_convertvector(read<Part>(from), Words);
#endif
}

/// Adds the products of a group to the sums; `half` is the number of its bytes.
[[gnu::always_inline]] inline void add_group(const uint8_t* values, const float* x, int64_t half, float scale,
                                             Floats& sums, float& rest) {
  Floats sum = {};
  int64_t i = 0;
  for (; i + kLanes <= half; i += kLanes) {
    const Words bytes = load_bytes(values + i);
    sum += read<Floats>(x + i) * __builtin_convertvector(reinterpret_cast<Integers>(bytes & 15), Floats);
    sum += read<Floats>(x + half + i) * __builtin_convertvector(reinterpret_cast<Integers>(bytes >> 4), Floats);
  }
  sums += scale * sum;
  for (; i < half; ++i) {
    rest += scale * (x[i] * static_cast<float>(values[i] & 15) + x[half + i] * static_cast<float>(values[i] >> 4));
  }
}

inline void int4_matmul(const Int4Weight& weight, const float* input, const float* group_sums, int64_t rows,
                        int64_t begin, int64_t end, float* output) {
  const int64_t groups = weight.in / weight.group, half = weight.group / 2;
  for (int64_t o = begin; o < end; ++o) {
    for (int64_t row = 0; row < rows; ++row) {
      Floats sums = {};
      float total = 0;
      for (int64_t g = 0; g < groups; ++g) {
        const uint8_t* values = weight.values + (o * groups + g) * half;
        const float scale = load(weight.scales[o * groups + g]), zero = load(weight.zeros[o * groups + g]);
        add_group(values, input + row * weight.in + g * weight.group, half, scale, sums, total);
        total += (zero - 8 * scale) * group_sums[row * groups + g];
      }
      output[row * weight.out + o] = sum_of(sums) + total;
    }
  }
}

constexpr QuantizedKernels kQuantizedKernels{.int8_matmul = int8_matmul, .int4_matmul = int4_matmul};

}  // namespace
}  // namespace transformers::kernels
