#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <string>
#include <type_traits>
#include <vector>

#include "utils/kernels/kernels.h"
#include "utils/kernels/matmul.h"

// What the tests of all kernels share: the levels to run, elements of both types, and the comparison with a reference
// in double.
namespace transformers::testing {

using kernels::BFloat16Bits;
using kernels::Float16Bits;
using kernels::Level;

/// All that this machine has. The highest one differs from the one before only in the integer kernels.
inline std::vector<Level> integer_levels() {
  std::vector<Level> result;
  for (const auto level : {Level::kBaseline, Level::kAvx2, Level::kAvx512, Level::kAvx512Vnni}) {
    if (level <= kernels::highest_level()) {
      result.push_back(level);
    }
  }
  return result;
}

inline std::vector<Level> levels() {
  auto result = integer_levels();
  std::erase(result, Level::kAvx512Vnni);
  return result;
}

inline std::string name_of_level(const ::testing::TestParamInfo<Level>& info) { return level_name(info.param); }

inline double to_double(float value) { return value; }
inline double to_double(BFloat16Bits bits) {
  return std::ldexp((bits & 0x7f) + ((bits & 0x7f80) != 0 ? 128 : 0), std::max((bits >> 7) & 0xff, 1) - 134) *
         (bits >> 15 != 0 ? -1 : 1);
}

inline double to_double(Float16Bits half) {
  const int bits = static_cast<uint16_t>(half);
  return std::ldexp((bits & 0x3ff) + ((bits & 0x7c00) != 0 ? 1024 : 0), std::max((bits >> 10) & 0x1f, 1) - 25) *
         (bits >> 15 != 0 ? -1 : 1);
}

/// The nearest element, ties to even. Finite values only.
template <typename T>
T nearest(double value) {
  if constexpr (sizeof(T) == sizeof(float)) {
    return static_cast<float>(value);
  } else {
    constexpr bool kIsHalf = std::is_same_v<T, Float16Bits>;
    constexpr int kDigits = kIsHalf ? 11 : 8, kSmallestExponent = kIsHalf ? -13 : -125;
    int exponent = 0;
    std::frexp(value, &exponent);
    const double unit = std::ldexp(1.0, std::max(exponent, kSmallestExponent) - kDigits);
    const double magnitude = std::abs(std::nearbyint(value / unit) * unit);
    uint16_t low = 0, high = kIsHalf ? 0x7c00 : 0x7f80;  // the bits of positive numbers are ordered as they are
    while (high - low > 1) {
      const auto middle = static_cast<uint16_t>((low + high) / 2);
      (to_double(T{middle}) <= magnitude ? low : high) = middle;
    }
    return T{static_cast<uint16_t>(low | (std::signbit(value) ? 0x8000 : 0))};
  }
}

/// What a kernel rounds to an element on its way: bfloat16 is rounded, float is compared with unrounded numbers.
template <typename T>
double step(double value) {
  return sizeof(T) == sizeof(float) ? value : to_double(nearest<T>(value));
}

template <typename T>
std::vector<T> random_elements(size_t count, int seed, double deviation = 1) {
  std::mt19937 engine(static_cast<unsigned>(seed));
  std::normal_distribution<double> normal(0, deviation);
  std::vector<T> result(count);
  std::generate(result.begin(), result.end(), [&] { return nearest<T>(normal(engine)); });
  return result;
}

/// Allows a difference of `tolerance` times the largest expected magnitude, at least times 1, which is about the size
/// of the terms that cancel in a small result. Else names the worst element.
template <typename T>
void expect_close(const std::string& what, const std::vector<T>& found, const std::vector<double>& expected,
                  double tolerance) {
  ASSERT_EQ(found.size(), expected.size()) << what;
  double largest = 1, worst = -1;
  size_t at = 0;
  for (size_t i = 0; i < found.size(); ++i) {
    largest = std::max(largest, std::abs(expected[i]));
    const double difference = std::abs(to_double(found[i]) - expected[i]);
    if (!(difference <= worst)) {
      worst = difference;
      at = i;
    }
  }
  EXPECT_LE(worst, tolerance * largest) << what << ": the worst of " << found.size() << " elements is [" << at
                                        << "], found " << to_double(found[at]) << ", expected " << expected[at];
}

/// Of float: a few units in the last place. Of bfloat16: one, where a step was near a tie.
template <typename T>
constexpr double kTolerance = sizeof(T) == sizeof(float) ? 2e-6 : 8e-3;

}  // namespace transformers::testing
