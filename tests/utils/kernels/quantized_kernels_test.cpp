#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "kernel_levels.h"

namespace transformers::testing {
namespace {

constexpr int64_t kOut = 9;
constexpr float kUntouched = -77;

class QuantizedKernelsTest : public ::testing::TestWithParam<Level> {
 protected:
  const kernels::QuantizedKernels& table = kernels::quantized_kernels(GetParam());
};

template <typename T>
std::vector<T> random_codes(int64_t count) {
  std::mt19937 engine(5);
  std::vector<T> result(static_cast<size_t>(count));
  std::generate(result.begin(), result.end(), [&] { return static_cast<T>(engine()); });
  return result;
}

/// output[row, o] of [rows, kOut]; rows of the weight outside [begin, end) stay untouched.
template <typename Dot>
std::vector<double> products(int64_t rows, int64_t begin, int64_t end, const Dot& dot) {
  std::vector<double> result(static_cast<size_t>(rows * kOut), kUntouched);
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t o = begin; o < end; ++o) {
      result[static_cast<size_t>(row * kOut + o)] = dot(row, o);
    }
  }
  return result;
}

TEST_P(QuantizedKernelsTest, Int8) {
  for (const int64_t in : {1, 7, 16, 33, 300}) {
    const auto values = random_codes<int8_t>(kOut * in);
    const auto scales = random_elements<float>(kOut, 1, 0.01),
               x = random_elements<float>(static_cast<size_t>(3 * in), 2);
    for (const int64_t rows : {1, 3}) {
      std::vector<float> found(static_cast<size_t>(rows * kOut), kUntouched);
      table.int8_matmul({.values = values.data(), .scales = scales.data(), .out = kOut, .in = in}, x.data(), rows, 2,
                        kOut - 1, found.data());
      const auto expected = products(rows, 2, kOut - 1, [&](int64_t row, int64_t o) {
        double sum = 0;
        for (int64_t i = 0; i < in; ++i) {
          sum += static_cast<double>(x[static_cast<size_t>(row * in + i)]) * values[static_cast<size_t>(o * in + i)];
        }
        return sum * scales[static_cast<size_t>(o)];
      });
      expect_close("int8_matmul, in " + std::to_string(in), found, expected, 2e-6);
    }
  }
}

TEST_P(QuantizedKernelsTest, Int4) {
  for (const auto& [features, group_size] : {std::pair<int64_t, int64_t>{2, 2}, {24, 6}, {128, 32}, {384, 128}}) {
    const auto in = features, group = group_size;  // clang 14: a lambda captures no structured binding
    const auto groups = in / group, half = group / 2;
    const auto values = random_codes<uint8_t>(kOut * in / 2);
    const auto scales = random_elements<BFloat16Bits>(static_cast<size_t>(kOut * groups), 1, 0.01);
    const auto zeros = random_elements<BFloat16Bits>(static_cast<size_t>(kOut * groups), 3, 0.05);
    const auto x = random_elements<float>(static_cast<size_t>(3 * in), 2);
    std::vector<float> sums(static_cast<size_t>(3 * groups));
    for (int64_t i = 0; i < 3 * in; ++i) {
      sums[static_cast<size_t>(i / group)] += x[static_cast<size_t>(i)];
    }
    for (const int64_t rows : {1, 3}) {
      std::vector<float> found(static_cast<size_t>(rows * kOut), kUntouched);
      table.int4_matmul({.values = values.data(),
                         .scales = scales.data(),
                         .zeros = zeros.data(),
                         .out = kOut,
                         .in = in,
                         .group = group},
                        x.data(), sums.data(), rows, 2, kOut - 1, found.data());
      const auto expected = products(rows, 2, kOut - 1, [&](int64_t row, int64_t o) {
        double sum = 0;
        for (int64_t i = 0; i < in; ++i) {  // a group of x has its even places in its first half
          const auto g = o * groups + i / group, place = i % group;
          const auto byte = values[static_cast<size_t>(g * half + place % half)];
          const int code = place < half ? byte & 15 : byte >> 4;
          const auto weight =
              (code - 8) * to_double(scales[static_cast<size_t>(g)]) + to_double(zeros[static_cast<size_t>(g)]);
          sum += weight * x[static_cast<size_t>(row * in + i)];
        }
        return sum;
      });
      expect_close("int4_matmul, in " + std::to_string(in), found, expected, 5e-6);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(, QuantizedKernelsTest, ::testing::ValuesIn(levels()), name_of_level);

}  // namespace
}  // namespace transformers::testing
