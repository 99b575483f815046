#include "utils/quantization/few_rows.h"

#include <bit>

// The compiler writes each loop for several instruction sets; the loader takes the best this machine has.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define FOR_EACH_MACHINE __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define FOR_EACH_MACHINE
#endif

namespace transformers {
namespace {

float from_bf16(uint16_t bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }

}  // namespace

FOR_EACH_MACHINE
void multiply(const Int8Weight& weight, const float* input, int64_t rows, int64_t begin, int64_t end, float* output,
              int64_t out) {
  for (int64_t o = begin; o < end; ++o) {
    const int8_t* values = weight.values + o * weight.in;
    for (int64_t row = 0; row < rows; ++row) {
      const float* x = input + row * weight.in;
      float sum = 0;
      for (int64_t i = 0; i < weight.in; ++i) {
        sum += x[i] * static_cast<float>(values[i]);
      }
      output[row * out + o] = sum * weight.scales[o];
    }
  }
}

FOR_EACH_MACHINE
void multiply(const Int4Weight& weight, const float* input, const float* group_sums, int64_t rows, int64_t begin,
              int64_t end, float* output, int64_t out) {
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
        const float scale = from_bf16(weight.scales[o * groups + g]), zero = from_bf16(weight.zeros[o * groups + g]);
        total += scale * sum + (zero - 8 * scale) * group_sums[row * groups + g];
      }
      output[row * out + o] = total;
    }
  }
}

}  // namespace transformers
