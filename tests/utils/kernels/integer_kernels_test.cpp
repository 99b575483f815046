// The integer matmuls at every level of this machine against plain loops in double over the same quantised numbers.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "kernel_levels.h"
#include "utils/kernels/integer.h"

namespace transformers::testing {
namespace {

constexpr int64_t kBlock = kernels::kBlockOutputs;
constexpr int64_t kRowCounts[] = {1, 2, 3, 4, 5, 8, 9, 15, 16, 17, 31, 32, 33, 128};
constexpr double kScalingError = 2e-6;  // of the scaling and of sums over groups in float32

int64_t rounded_up(int64_t value, int64_t unit) { return (value + unit - 1) / unit * unit; }
size_t place(int64_t index) { return static_cast<size_t>(index); }

/// Integers in [smallest, largest].
std::vector<int> random_integers(int64_t count, int seed, int smallest, int largest) {
  std::mt19937 engine(static_cast<unsigned>(seed));
  std::uniform_int_distribution<int> uniform(smallest, largest);
  std::vector<int> result(place(count));
  std::generate(result.begin(), result.end(), [&] { return uniform(engine); });
  return result;
}

/// Quantised activations and what they stand for.
struct Activations {
  int64_t rows, in, padded, group;
  std::vector<int8_t> values;
  std::vector<float> scales;
  std::vector<int32_t> sums;

  Activations(int64_t row_count, int64_t features, int64_t unit, int64_t group_size)
      : rows(row_count),
        in(features),
        padded(rounded_up(features, unit)),
        group(group_size == 0 ? padded : group_size),
        values(place(rows * padded), 99),
        scales(place(rows * padded / group)),
        sums(scales.size()) {}

  kernels::IntegerRows view() { return {values.data(), scales.data(), sums.data(), rows, padded, group}; }
  double value(int64_t row, int64_t i) const { return values[place(row * padded + i)]; }
  double scale(int64_t row, int64_t i) const { return scales[place((row * padded + i) / group)]; }

  /// All values are `value`.
  void fill(int8_t value) {
    std::fill(values.begin(), values.end(), value);
    std::fill(scales.begin(), scales.end(), 0.01F);
    std::fill(sums.begin(), sums.end(), static_cast<int32_t>(group * value));
  }
};

struct Int8Case {
  int64_t out, in, padded;
  std::vector<int> codes;  // [out, in]
  std::vector<int8_t> interleaved;
  std::vector<float> scales;

  Int8Case(int64_t outputs, int64_t features, std::vector<int> values)
      : out(outputs),
        in(features),
        padded(rounded_up(features, kernels::kInt8Inputs)),
        codes(std::move(values)),
        interleaved(place(rounded_up(outputs, kBlock) * padded)),
        scales(random_elements<float>(place(rounded_up(outputs, kBlock)), 3, 0.01)) {
    for (int64_t o = 0; o < out; ++o) {
      for (int64_t i = 0; i < in; ++i) {
        const auto at = ((o / kBlock * (padded / 4) + i / 4) * kBlock + o % kBlock) * 4 + i % 4;
        interleaved[place(at)] = static_cast<int8_t>(codes[place(o * in + i)]);
      }
    }
  }
  kernels::InterleavedInt8 view() const { return {interleaved.data(), scales.data(), out}; }
  int64_t blocks() const { return rounded_up(out, kBlock) / kBlock; }

  std::vector<double> products(const Activations& x) const {
    std::vector<double> result(place(x.rows * out));
    for (int64_t i = 0; i < x.rows * out; ++i) {
      const auto row = i / out, o = i % out;
      for (int64_t k = 0; k < in; ++k) {
        result[place(i)] += x.value(row, k) * codes[place(o * in + k)];
      }
      result[place(i)] *= x.scale(row, 0) * scales[place(o)];
    }
    return result;
  }
};

struct Int4Case {
  int64_t out, in, group;
  std::vector<int> codes;  // [out, in]
  std::vector<uint8_t> interleaved;
  std::vector<BFloat16Bits> scales, zeros;
  bool has_zeros = true;

  Int4Case(int64_t outputs, int64_t features, int64_t group_size, std::vector<int> values)
      : out(outputs),
        in(features),
        group(group_size),
        codes(std::move(values)),
        interleaved(place(rounded_up(outputs, kBlock) * features / 2)),
        scales(random_elements<BFloat16Bits>(place(rounded_up(outputs, kBlock) * features / group_size), 3, 0.01)),
        zeros(random_elements<BFloat16Bits>(scales.size(), 4, 0.05)) {
    for (int64_t o = 0; o < out; ++o) {
      for (int64_t i = 0; i < in; ++i) {
        const auto at = ((o / kBlock * (in / 8) + i / 8) * kBlock + o % kBlock) * 4 + i % 4;
        const auto code = codes[place(o * in + i)];
        interleaved[place(at)] |= static_cast<uint8_t>(i % 8 < 4 ? code : code << 4);
      }
    }
  }
  kernels::InterleavedInt4 view() const {
    return {interleaved.data(), scales.data(), has_zeros ? zeros.data() : nullptr, out};
  }
  int64_t blocks() const { return rounded_up(out, kBlock) / kBlock; }

  double weight(int64_t o, int64_t i) const {
    const auto at = place((o / kBlock * (in / group) + i / group) * kBlock + o % kBlock);
    return (codes[place(o * in + i)] - 8) * to_double(scales[at]) + (has_zeros ? to_double(zeros[at]) : 0);
  }
  std::vector<double> products(const Activations& x) const {
    std::vector<double> result(place(x.rows * out));
    for (int64_t i = 0; i < x.rows * out; ++i) {
      for (int64_t k = 0; k < in; ++k) {
        result[place(i)] += x.value(i / out, k) * x.scale(i / out, k) * weight(i % out, k);
      }
    }
    return result;
  }
};

class IntegerKernelsTest : public ::testing::TestWithParam<Level> {
 protected:
  const kernels::IntegerKernels& table = kernels::integer_kernels(GetParam());

  void quantize(const std::vector<float>& x, Activations& to) const {
    table.quantize_rows(x.data(), to.in, to.view(), 0, to.rows);
  }
  Activations random_activations(int64_t rows, int64_t in, int64_t unit, int64_t group) const {
    Activations x(rows, in, unit, group);
    quantize(random_elements<float>(place(rows * in), 2), x);
    return x;
  }
  std::vector<float> product(Activations& x, const Int8Case& weight) const {
    std::vector<float> y(place(x.rows * weight.out));
    table.int8_blocks(x.view(), weight.view(), 0, weight.blocks(), y.data());
    return y;
  }
  std::vector<float> product(Activations& x, const Int4Case& weight) const {
    std::vector<float> y(place(x.rows * weight.out));
    table.int4_blocks(x.view(), weight.view(), 0, weight.blocks(), y.data());
    return y;
  }
};

TEST_P(IntegerKernelsTest, ActivationsAreRoundedToNearestByTheLargestOfTheirGroup) {
  for (const int64_t in : {1, 3, 16, 31, 64, 100}) {
    const auto x = random_elements<float>(place(3 * in), 2);
    Activations found(3, in, 4, 0);
    quantize(x, found);
    for (int64_t row = 0; row < 3; ++row) {
      const auto* values = x.data() + row * in;
      const float largest = std::abs(*std::max_element(
          values, values + in, [](float left, float right) { return std::abs(left) < std::abs(right); }));
      EXPECT_EQ(found.scale(row, 0), largest / 127);
      double sum = 0;
      for (int64_t i = 0; i < found.padded; ++i) {
        const double exact = i < in ? static_cast<double>(values[i]) * 127 / largest : 0;
        EXPECT_NEAR(found.value(row, i), exact, 0.5001) << "row " << row << ", [" << i << "]";
        sum += found.value(row, i);
      }
      EXPECT_EQ(found.sums[place(row)], sum);
    }
  }
}

TEST_P(IntegerKernelsTest, WeightsAreRoundedToNearestByTheirRowOrGroup) {
  for (const int64_t count : {1, 7, 16, 32, 33, 200}) {
    const auto weights = random_elements<float>(place(count), 2, 0.1);
    std::vector<int8_t> int8(weights.size());
    std::vector<uint8_t> int4(weights.size());
    float row_scale = 0;
    BFloat16Bits scale = 0, zero = 0;
    EXPECT_TRUE(table.round_int8(weights.data(), count, int8.data(), &row_scale));
    table.round_int4(weights.data(), count, int4.data(), &scale, &zero);
    const auto [smallest, largest] = std::ranges::minmax(weights);
    EXPECT_EQ(row_scale, std::max(std::abs(smallest), std::abs(largest)) / 127);
    const double range = std::max(largest - smallest, 1e-6F) / 15;
    EXPECT_NEAR(to_double(scale), range, range / 256);
    EXPECT_NEAR(to_double(zero), smallest + range * 8, std::abs(smallest + range * 8) / 256);
    for (size_t i = 0; i < weights.size(); ++i) {
      EXPECT_NEAR(int8[i], weights[i] / row_scale, 0.5001) << "[" << i << "]";
      const double exact = (weights[i] - to_double(zero)) / to_double(scale) + 8;
      EXPECT_NEAR(int4[i], std::clamp(exact, 0.0, 15.0), 0.5001) << "[" << i << "]";
    }
  }
  std::vector<int8_t> codes(2);
  float scale = 0;
  EXPECT_FALSE(table.round_int8(std::vector<float>{1, NAN}.data(), 2, codes.data(), &scale));
  EXPECT_FALSE(table.round_int8(std::vector<float>{-INFINITY, 1}.data(), 2, codes.data(), &scale));
  EXPECT_TRUE(table.round_int8(std::vector<float>{0, 0}.data(), 2, codes.data(), &scale));
  EXPECT_EQ(codes, std::vector<int8_t>(2));
}

TEST_P(IntegerKernelsTest, ExtremeActivationsStayInRange) {
  constexpr float kHuge = std::numeric_limits<float>::max(), kTiny = std::numeric_limits<float>::denorm_min();
  Activations found(4, 4, 4, 0);
  quantize({kHuge, -kHuge, 0, kHuge / 4, kTiny, -kTiny, 0, 0, 0, 0, 0, 0, 1e-35F, -1e-35F, 0, 0}, found);
  EXPECT_EQ(found.values, (std::vector<int8_t>{127, -127, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 127, -127, 0, 0}));
  EXPECT_TRUE(std::ranges::all_of(found.scales, [](float scale) { return std::isfinite(scale); }));
}

TEST_P(IntegerKernelsTest, WhatIsNotFiniteMakesItsRowNaN) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity(), kNaN = std::numeric_limits<float>::quiet_NaN();
  const Int8Case weight(1, 4, {1, 2, 3, 4});
  Activations x(3, 4, 4, 0);
  quantize({1, -kInfinity, 0, 2, 1, 2, 3, 4, kNaN, 0, 0, 0}, x);
  const auto y = product(x, weight);
  EXPECT_TRUE(std::isnan(y[0]));
  EXPECT_TRUE(std::isfinite(y[1]));
  EXPECT_TRUE(std::isnan(y[2]));
}

TEST_P(IntegerKernelsTest, Int8EqualsPlainLoops) {
  for (const int64_t in : {1, 4, 7, 64, 130}) {
    for (const int64_t out : {1, 15, 16, 17, 33, 48}) {
      const Int8Case weight(out, in, random_integers(out * in, 5, -127, 127));
      for (const auto rows : kRowCounts) {
        auto x = random_activations(rows, in, kernels::kInt8Inputs, 0);
        expect_close(
            "int8, rows " + std::to_string(rows) + ", in " + std::to_string(in) + ", out " + std::to_string(out),
            product(x, weight), weight.products(x), kScalingError);
      }
    }
  }
}

TEST_P(IntegerKernelsTest, Int4EqualsPlainLoops) {
  for (const int64_t group : {8, 24, 32, 64, 128}) {
    for (const int64_t groups : {1, 3}) {
      for (const int64_t out : {1, 16, 17, 33}) {
        const auto in = group * groups;
        Int4Case weight(out, in, group, random_integers(out * in, 5, 0, 15));
        for (const auto rows : kRowCounts) {
          auto x = random_activations(rows, in, group, group);
          const auto what = "int4, rows " + std::to_string(rows) + ", group " + std::to_string(group) + ", in " +
                            std::to_string(in) + ", out " + std::to_string(out);
          weight.has_zeros = rows % 2 == 1;
          expect_close(what, product(x, weight), weight.products(x), kScalingError);
        }
      }
    }
  }
}

// The largest sums that can occur; an instruction that saturates would show.
TEST_P(IntegerKernelsTest, NothingSaturates) {
  for (const int value : {-127, 127}) {
    for (const int code : {-127, 127}) {
      const Int8Case weight(17, 512, std::vector<int>(17 * 512, code));
      Activations x(5, 512, 4, 0);
      x.fill(static_cast<int8_t>(value));
      expect_close("int8, all " + std::to_string(code), product(x, weight), weight.products(x), kScalingError);
    }
    for (const int64_t group : {32, 128}) {
      const Int4Case weight(17, 512, group, std::vector<int>(17 * 512, 15));
      Activations x(5, 512, group, group);
      x.fill(static_cast<int8_t>(value));
      expect_close("int4, all 15", product(x, weight), weight.products(x), kScalingError);
    }
  }
}

TEST_P(IntegerKernelsTest, TheLongestRowsDoNotOverflow) {
  constexpr int64_t kIn = kernels::kMaxIntegerInputs;
  const Int8Case weight(1, kIn, std::vector<int>(place(kIn), -127));
  Activations x(1, kIn, 4, 0);
  x.fill(127);
  expect_close("int8", product(x, weight), weight.products(x), kScalingError);
}

TEST_P(IntegerKernelsTest, ResultsDependNeitherOnTheSplitNorOnTheNumberOfRows) {
  constexpr int64_t kOut = 90, kIn = 192, kRows = 29;
  const Int8Case int8(kOut, kIn, random_integers(kOut * kIn, 5, -127, 127));
  const Int4Case int4(kOut, kIn, 32, random_integers(kOut * kIn, 6, 0, 15));
  auto by_row = random_activations(kRows, kIn, 4, 0), by_group = random_activations(kRows, kIn, 32, 32);
  const auto whole8 = product(by_row, int8), whole4 = product(by_group, int4);
  for (const int64_t split : {1, 2, 5}) {
    std::vector<float> parts8(whole8.size()), parts4(whole4.size());
    for (const auto& [begin, end] : {std::pair<int64_t, int64_t>{split, int8.blocks()}, {0, split}}) {
      table.int8_blocks(by_row.view(), int8.view(), begin, end, parts8.data());
      table.int4_blocks(by_group.view(), int4.view(), begin, end, parts4.data());
    }
    EXPECT_EQ(parts8, whole8);
    EXPECT_EQ(parts4, whole4);
  }
  auto one8 = by_row.view(), one4 = by_group.view();
  one8.rows = one4.rows = 1;
  std::vector<float> first8(kOut), first4(kOut);
  table.int8_blocks(one8, int8.view(), 0, int8.blocks(), first8.data());
  table.int4_blocks(one4, int4.view(), 0, int4.blocks(), first4.data());
  EXPECT_EQ(first8, std::vector<float>(whole8.begin(), whole8.begin() + kOut));
  EXPECT_EQ(first4, std::vector<float>(whole4.begin(), whole4.begin() + kOut));
}

INSTANTIATE_TEST_SUITE_P(, IntegerKernelsTest, ::testing::ValuesIn(integer_levels()), name_of_level);

}  // namespace
}  // namespace transformers::testing
