// The matmuls at every level of this machine against plain loops in double. A sum of float32 has an error of a few
// units in its last place; the only other rounding is that of the result.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "kernel_levels.h"

namespace transformers::testing {
namespace {

using kernels::Block;
using kernels::Matrix;

constexpr double kInfinity = std::numeric_limits<double>::infinity();
/// Half a unit in the last place of the result, and the sum in float32.
template <typename T>
constexpr double kRounding = 2e-6 + (std::is_same_v<T, float>          ? 0
                                     : std::is_same_v<T, BFloat16Bits> ? 1.0 / 256
                                                                       : 1.0 / 2048);

/// A matrix with its elements, rows or columns of which are neighbours in memory or lie apart.
template <typename T>
struct Operand {
  std::vector<T> elements;
  Matrix<T> matrix;

  Operand(int64_t rows, int64_t columns, int seed, bool columns_first = false, int64_t step = 1) {
    const auto gap = int64_t{3};  // rows of the weight are not aligned
    const auto line = (columns_first ? rows : columns) * step + gap;
    elements = random_elements<T>(static_cast<size_t>((columns_first ? columns : rows) * line + 1), seed);
    matrix = {elements.data() + 1, rows, columns, columns_first ? step : line, columns_first ? line : step};
  }

  T at(int64_t row, int64_t column) const {
    return matrix.data[row * matrix.row_stride + column * matrix.column_stride];
  }
  double value(int64_t row, int64_t column) const { return to_double(at(row, column)); }
};

template <typename T>
std::vector<double> products(const Operand<T>& left, const Operand<T>& right, const std::vector<T>& bias) {
  const auto &a = left.matrix, &b = right.matrix;
  std::vector<double> result;
  for (int64_t row = 0; row < a.rows; ++row) {
    for (int64_t column = 0; column < b.columns; ++column) {
      double sum = bias.empty() ? 0 : to_double(bias[static_cast<size_t>(column)]);
      for (int64_t k = 0; k < a.columns; ++k) {
        sum += left.value(row, k) * right.value(k, column);
      }
      result.push_back(sum);
    }
  }
  return result;
}

/// x [rows, in], padded rows in float32.
template <typename T>
std::vector<float> padded(const kernels::MatmulKernels<T>& table, const Operand<T>& x) {
  const auto& matrix = x.matrix;
  const auto line =
      (matrix.columns + kernels::kFewRowsPadding - 1) / kernels::kFewRowsPadding * kernels::kFewRowsPadding;
  std::vector<float> result(static_cast<size_t>(matrix.rows * line));
  for (int64_t row = 0; row < matrix.rows; ++row) {
    table.to_float(matrix.data + row * matrix.row_stride, matrix.columns, result.data() + row * line);
  }
  return result;
}

template <typename T>
class Products {
 public:
  explicit Products(Level level) : table_(kernels::matmul_kernels<T>(level)) {}

  /// `right` is the transposed weight. Outputs are computed in ranges that end at `cuts`.
  std::vector<T> few_rows(const Operand<T>& x, const Operand<T>& right, const std::vector<T>& bias,
                          const std::vector<int64_t>& cuts = {}) const {
    const auto out = right.matrix.columns;
    const auto x_floats = padded(table_, x);
    std::vector<T> y(static_cast<size_t>(x.matrix.rows * out));
    int64_t begin = 0;
    for (const auto end : with_end(cuts, out)) {
      table_.few_rows({x_floats.data(), x.matrix.rows, x.matrix.columns, right.matrix.data, right.matrix.column_stride,
                       bias.empty() ? nullptr : bias.data(), y.data(), out},
                      begin, end);
      begin = end;
    }
    return y;
  }

  /// The same for many rows, with ranges of panels, too.
  std::vector<T> many_rows(const Operand<T>& left, const Operand<T>& right, const std::vector<T>& bias,
                           const std::vector<int64_t>& cuts = {}, const std::vector<int64_t>& panel_cuts = {}) const {
    const auto rows = left.matrix.rows, out = right.matrix.columns, panels = table_.panels(rows);
    std::vector<float> packed(static_cast<size_t>(rows * left.matrix.columns)),
        workspace(static_cast<size_t>(table_.workspace_size), std::numeric_limits<float>::quiet_NaN());
    std::vector<T> y(static_cast<size_t>(rows * out));
    table_.pack_left(left.matrix, 0, panels / 2, packed.data());
    table_.pack_left(left.matrix, panels / 2, panels, packed.data());
    int64_t panel = 0;
    for (const auto panel_end : with_end(panel_cuts, panels)) {
      int64_t begin = 0;
      for (const auto end : with_end(cuts, out)) {
        table_.many_rows({packed.data(), rows, right.matrix, bias.empty() ? nullptr : bias.data(), y.data(), out},
                         {panel, panel_end, begin, end}, workspace.data());
        begin = end;
      }
      panel = panel_end;
    }
    return y;
  }

  const kernels::MatmulKernels<T>& table() const { return table_; }

 private:
  static std::vector<int64_t> with_end(std::vector<int64_t> cuts, int64_t end) {
    cuts.push_back(end);
    return cuts;
  }

  const kernels::MatmulKernels<T>& table_;
};

std::string sizes(int64_t rows, int64_t in, int64_t out) {
  return std::to_string(rows) + " rows, " + std::to_string(in) + " in, " + std::to_string(out) + " out";
}

class MatmulKernelsTest : public ::testing::TestWithParam<Level> {
 protected:
  /// Calls `check` with the products of each type of element.
  template <typename Check>
  static void for_each_type(const Check& check) {
    check(Products<float>(GetParam()));
    check(Products<BFloat16Bits>(GetParam()));
    check(Products<Float16Bits>(GetParam()));
  }
};

TEST_P(MatmulKernelsTest, FewRowsAreThoseOfTheFormula) {
  for_each_type([]<typename T>(const Products<T>& product) {
    for (const int64_t rows : {1, 2, 3, 4, 5, 8, 9, 15}) {
      for (const int64_t in : {1, 7, 16, 31, 64, 299}) {
        for (const int64_t out : {1, 3, 4, 9, 34}) {
          const Operand<T> x(rows, in, 1), weight(in, out, 2, /*columns_first=*/true);
          const auto bias = out % 2 == 0 ? std::vector<T>() : random_elements<T>(static_cast<size_t>(out), 3);
          expect_close(sizes(rows, in, out), product.few_rows(x, weight, bias), products(x, weight, bias),
                       kRounding<T>);
        }
      }
    }
  });
}

TEST_P(MatmulKernelsTest, ManyRowsAreThoseOfTheFormula) {
  for_each_type([]<typename T>(const Products<T>& product) {
    for (const int64_t rows : {1, 2, 3, 4, 5, 8, 9, 15, 16, 17, 31, 32, 33, 128}) {
      for (const int64_t in : {1, 9, 40, 395}) {
        for (const int64_t out : {1, 5, 33, 131}) {
          const Operand<T> x(rows, in, 1), weight(in, out, 2, /*columns_first=*/true);
          const auto bias = out == 33 ? random_elements<T>(static_cast<size_t>(out), 3) : std::vector<T>();
          expect_close(sizes(rows, in, out), product.many_rows(x, weight, bias), products(x, weight, bias),
                       kRounding<T>);
        }
      }
    }
  });
}

TEST_P(MatmulKernelsTest, OperandsMayLieInMemoryInAnyOrder) {
  for_each_type([]<typename T>(const Products<T>& product) {
    for (const bool left_columns_first : {false, true}) {
      for (const bool right_columns_first : {false, true}) {
        for (const int64_t step : {1, 2}) {
          const Operand<T> left(20, 37, 1, left_columns_first, step), right(37, 35, 2, right_columns_first, step);
          expect_close("step " + std::to_string(step), product.many_rows(left, right, {}), products(left, right, {}),
                       kRounding<T>);
        }
      }
    }
  });
}

TEST_P(MatmulKernelsTest, ManyPanelsAndNoInnerElements) {
  for_each_type([]<typename T>(const Products<T>& product) {
    const Operand<T> left(1100, 5, 1), right(5, 3, 2), empty_left(3, 0, 1), empty_right(0, 4, 2);
    expect_close("1100 rows", product.many_rows(left, right, {}), products(left, right, {}), kRounding<T>);
    expect_close("no inner", product.many_rows(empty_left, empty_right, {}), std::vector<double>(12), 0);
    expect_close("no in", product.few_rows(empty_left, empty_right, {}), std::vector<double>(12), 0);
  });
}

TEST_P(MatmulKernelsTest, ResultsDoNotDependOnTheSplit) {
  for_each_type([]<typename T>(const Products<T>& product) {
    const Operand<T> x(15, 401, 1), many(100, 401, 1), weight(401, 150, 2, /*columns_first=*/true);
    const auto few = product.few_rows(x, weight, {}), all = product.many_rows(many, weight, {});
    for (const std::vector<int64_t>& cuts : {std::vector<int64_t>{75}, {1, 2, 3}, {37, 113}, {5, 128, 149}}) {
      EXPECT_EQ(product.few_rows(x, weight, {}, cuts), few);
      EXPECT_EQ(product.many_rows(many, weight, {}, cuts, {1, 5}), all);
    }
  });
}

TEST_P(MatmulKernelsTest, ARowIsTheSameAmongAnyNumberOfRows) {
  for_each_type([]<typename T>(const Products<T>& product) {
    const Operand<T> x(15, 203, 1), weight(203, 10, 2, /*columns_first=*/true);
    const auto all = product.few_rows(x, weight, {});
    for (int64_t rows = 1; rows < 15; ++rows) {
      auto some = x;
      some.matrix.data = some.elements.data() + 1;
      some.matrix.rows = rows;
      EXPECT_EQ(product.few_rows(some, weight, {}), std::vector<T>(all.begin(), all.begin() + rows * 10)) << rows;
    }
  });
}

/// Memory whose last byte lies before a page that cannot be read.
class GuardedMemory {
 public:
  explicit GuardedMemory(const void* data, size_t bytes) : page_(static_cast<size_t>(sysconf(_SC_PAGESIZE))) {
    size_ = (bytes + page_ - 1) / page_ * page_ + page_;
    start_ = static_cast<char*>(mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    data_ = start_ + size_ - page_ - bytes;
    std::memcpy(data_, data, bytes);
    EXPECT_EQ(mprotect(start_ + size_ - page_, page_, PROT_NONE), 0);
  }
  ~GuardedMemory() { munmap(start_, size_); }
  GuardedMemory(const GuardedMemory&) = delete;
  GuardedMemory& operator=(const GuardedMemory&) = delete;

  template <typename T>
  const T* data() const {
    return reinterpret_cast<const T*>(data_);
  }

 private:
  size_t page_, size_;
  char *start_, *data_;
};

TEST_P(MatmulKernelsTest, NothingBehindTheLastElementIsRead) {
  for_each_type([]<typename T>(const Products<T>& product) {
    for (const int64_t in : {1, 3, 8, 17, 31, 33, 70}) {
      for (const int64_t out : {1, 4, 7, 34}) {
        const auto elements = random_elements<T>(static_cast<size_t>(in * out), 2);
        const GuardedMemory memory(elements.data(), elements.size() * sizeof(T));
        const Operand<T> x(2, in, 1);
        Operand<T> weight(in, out, 2, /*columns_first=*/true), rows(in, out, 2);
        weight.matrix = {memory.data<T>(), in, out, 1, in};
        rows.matrix = {memory.data<T>(), in, out, out, 1};
        expect_close("few rows", product.few_rows(x, weight, {}), products(x, weight, {}), kRounding<T>);
        expect_close("many rows", product.many_rows(x, weight, {}), products(x, weight, {}), kRounding<T>);
        expect_close("by rows", product.many_rows(x, rows, {}), products(x, rows, {}), kRounding<T>);
      }
    }
  });
}

/// All numbers of 16 bits but NaN.
template <typename T>
std::vector<T> all_halves() {
  std::vector<T> result;
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    if ((bits & 0x7fffU) <= (std::is_same_v<T, Float16Bits> ? 0x7c00U : 0x7f80U)) {
      result.push_back(T{static_cast<uint16_t>(bits)});
    }
  }
  return result;
}

template <typename T>
double exact(T half) {
  const auto bits = static_cast<uint16_t>(half);
  const bool infinite = (bits & 0x7fff) == (std::is_same_v<T, Float16Bits> ? 0x7c00 : 0x7f80);
  return infinite ? (bits >> 15 != 0 ? -kInfinity : kInfinity) : to_double(half);
}

template <typename T>
void expect_exact_conversions(const Products<T>& product) {
  const auto halves = all_halves<T>();
  const auto count = static_cast<int64_t>(halves.size());
  std::vector<float> floats(halves.size());
  product.table().to_float(halves.data(), count, floats.data());
  const T unit = nearest<T>(1);
  Operand<T> x(1, 1, 1), row(1, count, 1);
  x.matrix.data = &unit;
  row.matrix = {halves.data(), 1, count, 1, 1};  // as columns
  const auto few = product.few_rows(x, row, {}), by_columns = product.many_rows(x, row, {});
  row.matrix.row_stride = count;
  const auto by_rows = product.many_rows(x, row, {});
  for (size_t i = 0; i < halves.size(); ++i) {
    ASSERT_EQ(static_cast<double>(floats[i]), exact(halves[i])) << "bits " << static_cast<uint16_t>(halves[i]);
    for (const auto* found : {&few, &by_columns, &by_rows}) {
      ASSERT_EQ(exact((*found)[i]), exact(halves[i])) << "bits " << static_cast<uint16_t>(halves[i]);
    }
  }
}

TEST_P(MatmulKernelsTest, ConversionsAreExactWithDenormalsAndInfinities) {
  expect_exact_conversions(Products<BFloat16Bits>(GetParam()));
  expect_exact_conversions(Products<Float16Bits>(GetParam()));
}

/// The result for one row of one element, times a weight of 1.
template <typename T>
T rounded_by_kernel(const Products<T>& product, float value) {
  std::vector<float> x(kernels::kFewRowsPadding);
  x[0] = value;
  const T unit = nearest<T>(1);
  T y{};
  product.table().few_rows({x.data(), 1, 1, &unit, 1, nullptr, &y, 1}, 0, 1);
  return y;
}

template <typename T>
void expect_results_rounded_to_even(const Products<T>& product) {
  const auto halves = all_halves<T>();
  for (size_t i = 0; i + 1 < halves.size(); i += 7) {
    const double low = to_double(halves[i]), high = exact(halves[i + 1]);
    if (!std::isfinite(high) || std::signbit(low) != std::signbit(high)) {
      continue;
    }
    const auto middle = static_cast<float>((low + high) / 2);
    const auto even = (static_cast<uint16_t>(halves[i]) & 1) == 0 ? halves[i] : halves[i + 1];
    ASSERT_EQ(rounded_by_kernel(product, middle), even) << middle;
    ASSERT_EQ(rounded_by_kernel(product, std::nextafter(middle, static_cast<float>(low))), halves[i]) << middle;
    ASSERT_EQ(rounded_by_kernel(product, std::nextafter(middle, static_cast<float>(high))), halves[i + 1]) << middle;
  }
}

TEST_P(MatmulKernelsTest, ResultsAreRoundedToTheNearestTiesToEven) {
  expect_results_rounded_to_even(Products<BFloat16Bits>(GetParam()));
  const Products<Float16Bits> half(GetParam());
  expect_results_rounded_to_even(half);
  EXPECT_EQ(rounded_by_kernel(half, 65519.996F), Float16Bits{0x7bff});
  EXPECT_EQ(rounded_by_kernel(half, 65520), Float16Bits{0x7c00});
  EXPECT_EQ(rounded_by_kernel(half, -1e30F), Float16Bits{0xfc00});
}

template <typename T>
bool is_nan(T value) {
  if constexpr (std::is_same_v<T, float>) {
    return std::isnan(value);
  } else {
    return (static_cast<uint16_t>(value) & 0x7fff) > (std::is_same_v<T, Float16Bits> ? 0x7c00 : 0x7f80);
  }
}

template <typename T>
T special(float value) {
  if constexpr (std::is_same_v<T, float>) {
    return value;
  } else {
    const uint16_t infinity = std::is_same_v<T, Float16Bits> ? 0x7c00 : 0x7f80;
    return T{static_cast<uint16_t>(infinity | (std::isnan(value) ? 1 : 0))};
  }
}

TEST_P(MatmulKernelsTest, InfinitiesAndNaNsReachTheirOwnOutputsOnly) {
  for_each_type([]<typename T>(const Products<T>& product) {
    for (const int64_t place : {0, 12, 22}) {
      Operand<T> x(3, 23, 1), weight(23, 9, 2, /*columns_first=*/true);
      const auto clean = product.few_rows(x, weight, {}), clean_many = product.many_rows(x, weight, {});
      auto* elements = weight.elements.data() + 1;
      elements[2 * weight.matrix.column_stride + place] = special<T>(std::numeric_limits<float>::infinity());
      elements[5 * weight.matrix.column_stride + place] = special<T>(std::numeric_limits<float>::quiet_NaN());
      weight.matrix.data = elements;
      const auto few = product.few_rows(x, weight, {}), many = product.many_rows(x, weight, {});
      for (size_t i = 0; i < few.size(); ++i) {
        const bool is_infinite = i % 9 == 2, has_nan = i % 9 == 5;
        const bool few_same = few[i] == clean[i], many_same = many[i] == clean_many[i];
        EXPECT_EQ(is_nan(few[i]), has_nan) << i;
        EXPECT_EQ(is_nan(many[i]), has_nan) << i;
        EXPECT_EQ(few_same && many_same, !is_infinite && !has_nan) << i;
      }
    }
  });
}

INSTANTIATE_TEST_SUITE_P(, MatmulKernelsTest, ::testing::ValuesIn(levels()), name_of_level);

}  // namespace
}  // namespace transformers::testing
