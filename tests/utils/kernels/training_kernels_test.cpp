// Every training kernel at every level of this machine against the plain formula in double. The formulas round to
// bfloat16 where the kernels do (step<T>), so that a result differs by one unit where a step was near a tie and no
// more.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numbers>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "kernel_levels.h"

namespace transformers::testing {
namespace {

constexpr double kEps = 1e-5;

/// The kernels of one level for one type of element, each compared with its formula.
template <typename T>
class Formulas {
 public:
  explicit Formulas(Level level) : table_(kernels::training_kernels<T>(level)) {}

  void rms_norm(int64_t rows, int64_t columns) const {
    const auto x = draw(rows * columns, 1), weight = draw(columns, 2);
    std::vector<T> y(x.size());
    std::vector<float> scales(static_cast<size_t>(rows));
    table_.rms_norm({x.data(), weight.data(), rows, columns, kEps, y.data(), scales.data()});
    const auto expected_scales = scales_of(x, columns);
    expect_close("rms_norm, scales", scales, expected_scales, 2e-6);
    check("rms_norm", y, [&](size_t i) {
      const auto column = i % static_cast<size_t>(columns), row = i / static_cast<size_t>(columns);
      return to_double(weight[column]) * step<T>(to_double(x[i]) * expected_scales[row]);
    });
  }

  void rms_norm_backward(int64_t rows, int64_t columns) const {
    const auto width = static_cast<size_t>(columns);
    const auto x = draw(rows * columns, 1), weight = draw(columns, 2), grad = draw(rows * columns, 3);
    const auto scales = scales_of(x, columns);
    const std::vector<float> given_scales(scales.begin(), scales.end());
    std::vector<T> grad_x(x.size());
    std::vector<float> grad_weight(width, 0.5F);  // is added to
    table_.rms_norm_backward(
        {grad.data(), x.data(), weight.data(), given_scales.data(), rows, columns, grad_x.data(), grad_weight.data()});
    std::vector<double> along(scales.size()), expected_weight(width, 0.5);
    const auto weighted = [&](size_t i) { return step<T>(to_double(grad[i]) * to_double(weight[i % width])); };
    for (size_t i = 0; i < x.size(); ++i) {
      const auto normalised = to_double(x[i]) * scales[i / width];
      along[i / width] += weighted(i) * normalised / static_cast<double>(columns);
      expected_weight[i % width] += to_double(grad[i]) * step<T>(normalised);
    }
    expect_close("rms_norm_backward, weight", grad_weight, expected_weight, kTolerance<T>);
    check("rms_norm_backward, x", grad_x, [&](size_t i) {
      const auto scale = scales[i / width];
      return scale * (weighted(i) - to_double(x[i]) * scale * along[i / width]);
    });
  }

  void silu_and_mul(int64_t count) const {
    const auto gate = draw(count, 1, 3), up = draw(count, 2), grad = draw(count, 3);
    std::vector<T> y(gate.size()), grad_gate(gate.size()), grad_up(gate.size());
    table_.silu_and_mul(gate.data(), up.data(), count, y.data());
    table_.silu_and_mul_backward(grad.data(), gate.data(), up.data(), count, grad_gate.data(), grad_up.data());
    const auto x = [&](size_t i) { return to_double(gate[i]); };
    const auto sigmoid = [&](size_t i) { return 1 / (1 + std::exp(-x(i))); };
    const auto silu = [&](size_t i) { return step<T>(x(i) * sigmoid(i)); };
    check("silu_and_mul", y, [&](size_t i) { return silu(i) * to_double(up[i]); });
    check("silu_and_mul_backward, up", grad_up, [&](size_t i) { return to_double(grad[i]) * silu(i); });
    check("silu_and_mul_backward, gate", grad_gate, [&](size_t i) {
      return step<T>(to_double(grad[i]) * to_double(up[i])) * sigmoid(i) * (1 + x(i) * (1 - sigmoid(i)));
    });
  }

  void gelu_new(int64_t count) const {
    const auto x = draw(count, 1, 2), grad = draw(count, 2);
    std::vector<T> y(x.size()), grad_x(x.size());
    table_.gelu_new(x.data(), count, y.data());
    table_.gelu_new_backward(grad.data(), x.data(), count, grad_x.data());
    const double slope = std::sqrt(2 / std::numbers::pi);
    const auto r = [](double value) { return step<T>(value); };
    const auto tanh_at = [&](double v) { return r(std::tanh(r(slope * r(v + r(0.044715 * r(v * v * v)))))); };
    check("gelu_new", y, [&](size_t i) {
      const double v = to_double(x[i]);
      return r(0.5 * v) * r(1 + tanh_at(v));
    });
    check("gelu_new_backward", grad_x, [&](size_t i) {
      const double v = to_double(x[i]), g = to_double(grad[i]), tanh = tanh_at(v);
      const double inner = r(slope * r(r(g * r(0.5 * v)) * (1 - tanh * tanh)));
      return r(inner + r(r(0.044715 * inner) * r(3 * r(v * v)))) + r(0.5 * r(g * r(1 + tanh)));
    });
  }

  void rotate_halves(int64_t dim, bool back) const {
    const auto x = draw(dim, 1), cos = draw(dim, 2), sin = draw(dim, 3);
    std::vector<T> y(x.size());
    table_.rotate_halves(x.data(), cos.data(), sin.data(), dim, back, y.data());
    const auto half = x.size() / 2;
    check("rotate_halves", y, [&](size_t i) {
      const auto other = (i + half) % x.size();
      const double sign = (i < half) != back ? -1 : 1, s = to_double(sin[back ? other : i]);
      return step<T>(to_double(x[i]) * to_double(cos[i])) + sign * step<T>(to_double(x[other]) * s);
    });
  }

  void rotate_interleaved(int64_t rotary_dim, int64_t dim, bool back) const {
    const auto x = draw(dim, 1), cos = draw(rotary_dim / 2, 2), sin = draw(rotary_dim / 2, 3);
    std::vector<T> y(x.size());
    table_.rotate_interleaved(x.data(), cos.data(), sin.data(), rotary_dim, dim, back, y.data());
    check("rotate_interleaved", y, [&](size_t i) {
      if (std::cmp_greater_equal(i, rotary_dim)) {
        return to_double(x[i]);
      }
      const double sign = (i % 2 == 0) != back ? -1 : 1;
      return step<T>(to_double(x[i]) * to_double(cos[i / 2])) +
             sign * step<T>(to_double(x[i ^ 1]) * to_double(sin[i / 2]));
    });
  }

  void cross_entropy(int64_t columns, double smoothing) const {
    const auto width = static_cast<size_t>(columns);
    const std::vector<int64_t> labels{columns - 1, -100, 0};
    const auto scores = draw(3 * columns, 1, 4);
    auto logits = scores;
    std::vector<float> losses(labels.size());
    table_.cross_entropy(logits.data(), labels.data(), 3, columns, {-100, smoothing, 0.25}, losses.data());
    std::vector<double> expected_losses(3), expected(logits.size());
    for (const size_t row : {0U, 2U}) {
      double sum = 0;
      for (size_t i = 0; i < width; ++i) {
        sum += std::exp(to_double(scores[row * width + i]));
      }
      for (size_t i = 0; i < width; ++i) {
        const double score = to_double(scores[row * width + i]), even = smoothing / static_cast<double>(columns);
        const double target = even + (std::cmp_equal(i, labels[row]) ? 1 - smoothing : 0);
        expected_losses[row] += target * (std::log(sum) - score);
        expected[row * width + i] = 0.25 * (std::exp(score) / sum - target);
      }
    }
    expect_close("cross_entropy, losses", losses, expected_losses, 2e-6);
    expect_close("cross_entropy, gradient", logits, expected, kTolerance<T>);
  }

  void add(int64_t count) const {
    const auto addend = draw(count, 1);
    const auto before = random_elements<float>(addend.size(), 2);
    auto sum = before;
    table_.add(addend.data(), count, sum.data());
    for (size_t i = 0; i < sum.size(); ++i) {
      EXPECT_EQ(sum[i], before[i] + static_cast<float>(to_double(addend[i]))) << "add, [" << i << "]";
    }
  }

 private:
  static std::vector<T> draw(int64_t count, int seed, double deviation = 1) {
    return random_elements<T>(static_cast<size_t>(count), seed, deviation);
  }

  static std::vector<double> scales_of(const std::vector<T>& x, int64_t columns) {
    std::vector<double> squares(x.size() / static_cast<size_t>(columns));
    for (size_t i = 0; i < x.size(); ++i) {
      squares[i / static_cast<size_t>(columns)] += to_double(x[i]) * to_double(x[i]);
    }
    for (auto& square : squares) {
      square = 1 / std::sqrt(square / static_cast<double>(columns) + kEps);
    }
    return squares;
  }

  template <typename Formula>
  static void check(const char* what, const std::vector<T>& found, const Formula& formula) {
    std::vector<double> expected(found.size());
    for (size_t i = 0; i < expected.size(); ++i) {
      expected[i] = formula(i);
    }
    const auto name = std::string(what) + ", " + std::to_string(found.size()) + " elements";
    expect_close(name, found, expected, kTolerance<T>);
    if constexpr (std::is_same_v<T, BFloat16Bits>) {
      size_t differing = 0;
      for (size_t i = 0; i < found.size(); ++i) {
        differing += found[i] != nearest<T>(expected[i]) ? 1 : 0;
      }
      EXPECT_LE(differing, 3 + found.size() / 50) << name << ": roundings that differ";
    }
  }

  const kernels::TrainingKernels<T>& table_;
};

class TrainingKernelsTest : public ::testing::TestWithParam<Level> {
 protected:
  /// Calls `test` with the formulas of both types of element.
  template <typename Test>
  static void for_both_types(const Test& test) {
    {
      SCOPED_TRACE("float");
      test(Formulas<float>(GetParam()));
    }
    SCOPED_TRACE("bfloat16");
    test(Formulas<BFloat16Bits>(GetParam()));
  }
};

// Below, at and above the lengths of vectors, with and without a rest.
constexpr int64_t kCounts[] = {1, 2, 7, 15, 16, 17, 31, 32, 33, 64, 257, 1000};

TEST_P(TrainingKernelsTest, RmsNorm) {
  for_both_types([](const auto& formulas) {
    for (const auto columns : kCounts) {
      formulas.rms_norm(3, columns);
      formulas.rms_norm_backward(3, columns);
    }
  });
}

TEST_P(TrainingKernelsTest, Activations) {
  for_both_types([](const auto& formulas) {
    for (const auto count : kCounts) {
      formulas.silu_and_mul(count);
      formulas.gelu_new(count);
    }
  });
}

TEST_P(TrainingKernelsTest, Rotations) {
  for_both_types([](const auto& formulas) {
    for (const bool back : {false, true}) {
      for (const int64_t dim : {2, 6, 16, 34, 64, 128}) {
        formulas.rotate_halves(dim, back);
        formulas.rotate_interleaved(dim, dim, back);
        formulas.rotate_interleaved(dim / 4 * 2, dim, back);
      }
    }
  });
}

TEST_P(TrainingKernelsTest, CrossEntropy) {
  for_both_types([](const auto& formulas) {
    for (const double smoothing : {0.0, 0.1}) {
      for (const auto columns : kCounts) {
        formulas.cross_entropy(columns, smoothing);
      }
    }
  });
}

TEST_P(TrainingKernelsTest, Add) {
  for_both_types([](const auto& formulas) {
    for (const auto count : kCounts) {
      formulas.add(count);
    }
  });
}

TEST_P(TrainingKernelsTest, LargeNumbersSaturateAndNaNStays) {
  constexpr auto kNaN = std::numeric_limits<float>::quiet_NaN();
  // As many of each as fill a vector: the rest of a loop is another piece of code.
  for (const auto& [x, silu] : {std::pair{-1e4F, -0.0F}, {1e4F, 1e4F}, {0.0F, 0.0F}, {kNaN, kNaN}}) {
    const std::vector<float> gate(37, x), up(37, 1);
    std::vector<float> y(37);
    kernels::training_kernels<float>(GetParam()).silu_and_mul(gate.data(), up.data(), 37, y.data());
    for (const auto value : y) {
      EXPECT_TRUE(std::isnan(silu) ? std::isnan(value) : std::abs(value - silu) < 1e-30F)
          << "silu of " << x << ", found " << value;
    }
  }
}

TEST_P(TrainingKernelsTest, ScoresFarBelowTheLargestCountNothing) {
  const std::vector<int64_t> labels{0};
  for (const size_t columns : {2U, 40U}) {
    std::vector<float> logits(columns, -1000);
    logits[0] = 0;
    float loss = -1;
    kernels::training_kernels<float>(GetParam())
        .cross_entropy(logits.data(), labels.data(), 1, static_cast<int64_t>(columns), {-100, 0, 1}, &loss);
    EXPECT_LT(std::abs(loss), 1e-30F);
    EXPECT_LT(std::abs(logits[columns - 1]), 1e-30F);
  }
}

TEST_P(TrainingKernelsTest, BFloat16TiesGoToEven) {
  // 1.5 · (1 + k/128) lies between two bfloat16 numbers for odd k.
  const auto x = nearest<BFloat16Bits>(1.5);
  const std::vector<BFloat16Bits> both(64, x), sin(64, 0);
  std::vector<BFloat16Bits> cos(64), y(64);
  for (size_t i = 0; i < cos.size(); ++i) {
    cos[i] = nearest<BFloat16Bits>(1 + static_cast<double>(i % 32) / 128);
  }
  kernels::training_kernels<BFloat16Bits>(GetParam())
      .rotate_halves(both.data(), cos.data(), sin.data(), 64, false, y.data());
  for (size_t i = 0; i < y.size(); ++i) {
    EXPECT_EQ(to_double(y[i]), std::nearbyint(1.5 * (128 + static_cast<double>(i % 32))) / 128) << i;
  }
}

INSTANTIATE_TEST_SUITE_P(, TrainingKernelsTest, ::testing::ValuesIn(levels()), name_of_level);

}  // namespace
}  // namespace transformers::testing
