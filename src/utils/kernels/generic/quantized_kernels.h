#pragma once

#include "utils/kernels/generic/elements.h"
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

inline void int4_matmul(const Int4Weight& weight, const float* input, const float* group_sums, int64_t rows,
                        int64_t begin, int64_t end, float* output) {
  const int64_t groups = weight.in / weight.group, half = weight.group / 2;
  for (int64_t o = begin; o < end; ++o) {
    for (int64_t row = 0; row < rows; ++row) {
      float total = 0;
      for (int64_t g = 0; g < groups; ++g) {
        const uint8_t* values = weight.values + (o * groups + g) * half;
        const float* x = input + row * weight.in + g * weight.group;
        float sum = 0;
        for (int64_t i = 0; i < half; ++i) {
          sum += x[i] * static_cast<float>(values[i] & 15) + x[half + i] * static_cast<float>(values[i] >> 4);
        }
        const float scale = load(weight.scales[o * groups + g]), zero = load(weight.zeros[o * groups + g]);
        total += scale * sum + (zero - 8 * scale) * group_sums[row * groups + g];
      }
      output[row * weight.out + o] = total;
    }
  }
}

constexpr QuantizedKernels kQuantizedKernels{.int8_matmul = int8_matmul, .int4_matmul = int4_matmul};

}  // namespace
}  // namespace transformers::kernels
