#include "utils/modeling/fused_kernels.h"

#include <bit>
#include <cmath>

// The compiler writes each loop for several instruction sets; the loader takes the best this machine has.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define FOR_EACH_MACHINE __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#define INLINE inline __attribute__((always_inline))
#else
#define FOR_EACH_MACHINE
#define INLINE inline
#endif

namespace transformers::kernels {
namespace {

INLINE float load(float value) { return value; }
INLINE float load(BFloat16Bits bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }

/// To the nearest bfloat16, ties to even.
INLINE BFloat16Bits bfloat16_bits(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const auto rounded = static_cast<BFloat16Bits>((bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16);
  return value != value ? BFloat16Bits{0x7fc0} : rounded;
}

INLINE void store(float& place, float value) { place = value; }
INLINE void store(BFloat16Bits& place, float value) { place = bfloat16_bits(value); }

/// As a tensor of T would hold it.
template <typename T>
INLINE float rounded(float value) {
  if constexpr (sizeof(T) == sizeof(float)) {
    return value;
  } else {
    return load(bfloat16_bits(value));
  }
}

/// e^x to 2 units in the last place; NaN stays NaN. The range is split at multiples of log 2, the rest is Cephes'
/// polynomial of degree 6.
INLINE float exponential(float x) {
  x = x < -87.33654F ? -87.33654F : x;
  x = x > 88.37626F ? 88.37626F : x;
  constexpr float kRounder = 12582912.0F;  // 1.5 · 2^23: what is added to it loses its fraction
  const float n = (x * 1.44269504F + kRounder) - kRounder;
  const float r = (x - n * 0.693359375F) + n * 2.12194440e-4F;
  float p = 1.9875691500e-4F;
  p = p * r + 1.3981999507e-3F;
  p = p * r + 8.3334519073e-3F;
  p = p * r + 4.1665795894e-2F;
  p = p * r + 1.6666665459e-1F;
  p = p * r + 5.0000001201e-1F;
  p = p * (r * r) + r + 1.0F;
  return p * std::bit_cast<float>((static_cast<int32_t>(n) + 127) << 23);
}

INLINE float sigmoid(float x) { return 1.0F / (1.0F + exponential(-x)); }
INLINE float tanh_of(float x) { return 1.0F - 2.0F / (exponential(2.0F * x) + 1.0F); }

template <typename T>
INLINE void rms_norm_rows(const T* x, const T* weight, int64_t columns, double eps, int64_t begin, int64_t end, T* y,
                          float* scales) {
  for (int64_t row = begin; row < end; ++row) {
    const T* in = x + row * columns;
    T* out = y + row * columns;
    float squares = 0;
#pragma omp simd reduction(+ : squares)
    for (int64_t i = 0; i < columns; ++i) {
      squares += load(in[i]) * load(in[i]);
    }
    const float scale = 1.0F / std::sqrt(squares / static_cast<float>(columns) + static_cast<float>(eps));
    scales[row] = scale;
    for (int64_t i = 0; i < columns; ++i) {
      store(out[i], load(weight[i]) * rounded<T>(load(in[i]) * scale));
    }
  }
}

template <typename T>
INLINE void rms_norm_backward_rows(const T* grad, const T* x, const T* weight, const float* scales, int64_t columns,
                                   int64_t begin, int64_t end, T* grad_x, float* grad_weight) {
  for (int64_t row = begin; row < end; ++row) {
    const T *in = x + row * columns, *g = grad + row * columns;
    T* out = grad_x + row * columns;
    const float scale = scales[row];
    float along = 0;  // of the gradient and the normalised row
#pragma omp simd reduction(+ : along)
    for (int64_t i = 0; i < columns; ++i) {
      const float normalised = load(in[i]) * scale;
      grad_weight[i] += load(g[i]) * rounded<T>(normalised);
      along += rounded<T>(load(g[i]) * load(weight[i])) * normalised;
    }
    along /= static_cast<float>(columns);
    for (int64_t i = 0; i < columns; ++i) {
      const float normalised = load(in[i]) * scale;
      store(out[i], scale * (rounded<T>(load(g[i]) * load(weight[i])) - normalised * along));
    }
  }
}

template <typename T>
INLINE void silu_and_mul_elements(const T* gate, const T* up, int64_t begin, int64_t end, T* y) {
  for (int64_t i = begin; i < end; ++i) {
    const float x = load(gate[i]);
    store(y[i], rounded<T>(x * sigmoid(x)) * load(up[i]));
  }
}

template <typename T>
INLINE void silu_and_mul_backward_elements(const T* grad, const T* gate, const T* up, int64_t begin, int64_t end,
                                           T* grad_gate, T* grad_up) {
  for (int64_t i = begin; i < end; ++i) {
    const float x = load(gate[i]), g = load(grad[i]), s = sigmoid(x);
    store(grad_up[i], g * rounded<T>(x * s));
    store(grad_gate[i], rounded<T>(g * load(up[i])) * (s * (1.0F + x * (1.0F - s))));
  }
}

constexpr float kSqrtTwoOverPi = 0.7978845608028654F, kCubic = 0.044715F;

template <typename T>
INLINE void gelu_new_elements(const T* x, int64_t begin, int64_t end, T* y) {
  for (int64_t i = begin; i < end; ++i) {
    const float v = load(x[i]);
    const float sum = rounded<T>(v + rounded<T>(kCubic * rounded<T>(v * v * v)));
    const float tanh = rounded<T>(tanh_of(rounded<T>(kSqrtTwoOverPi * sum)));
    store(y[i], rounded<T>(0.5F * v) * rounded<T>(1.0F + tanh));
  }
}

template <typename T>
INLINE void gelu_new_backward_elements(const T* grad, const T* x, int64_t begin, int64_t end, T* grad_x) {
  for (int64_t i = begin; i < end; ++i) {
    const float v = load(x[i]), g = load(grad[i]);
    const float sum = rounded<T>(v + rounded<T>(kCubic * rounded<T>(v * v * v)));
    const float tanh = rounded<T>(tanh_of(rounded<T>(kSqrtTwoOverPi * sum)));
    const float grad_tanh = rounded<T>(g * rounded<T>(0.5F * v));
    const float grad_sum = rounded<T>(kSqrtTwoOverPi * rounded<T>(grad_tanh * (1.0F - tanh * tanh)));
    const float grad_cube = rounded<T>(rounded<T>(kCubic * grad_sum) * rounded<T>(3.0F * rounded<T>(v * v)));
    const float grad_half = rounded<T>(0.5F * rounded<T>(g * rounded<T>(1.0F + tanh)));
    store(grad_x[i], rounded<T>(grad_sum + grad_cube) + grad_half);
  }
}

template <typename T>
INLINE void rotate_halves_of(const T* __restrict x, const T* __restrict cos, const T* __restrict sin, int64_t dim,
                             bool back, T* __restrict y) {
  const int64_t half = dim / 2;
  // Turning back, the sine belongs to the element it came from.
  const T *low_sin = back ? sin + half : sin, *high_sin = back ? sin : sin + half;
  const float sign = back ? -1.0F : 1.0F;
  for (int64_t i = 0; i < half; ++i) {
    const float low = load(x[i]), high = load(x[half + i]);
    store(y[i], rounded<T>(low * load(cos[i])) - sign * rounded<T>(high * load(low_sin[i])));
    store(y[half + i], rounded<T>(high * load(cos[half + i])) + sign * rounded<T>(low * load(high_sin[i])));
  }
}

template <typename T>
INLINE void rotate_neighbours_of(const T* __restrict x, const T* __restrict cos, const T* __restrict sin,
                                 int64_t rotary_dim, int64_t dim, bool back, T* __restrict y) {
  const float sign = back ? -1.0F : 1.0F;
  for (int64_t i = 0; i < rotary_dim / 2; ++i) {
    const float even = load(x[2 * i]), odd = load(x[2 * i + 1]), c = load(cos[i]), s = load(sin[i]);
    store(y[2 * i], rounded<T>(even * c) - sign * rounded<T>(odd * s));
    store(y[2 * i + 1], rounded<T>(odd * c) + sign * rounded<T>(even * s));
  }
  for (int64_t i = rotary_dim; i < dim; ++i) {
    y[i] = x[i];
  }
}

/// Loss of a row; the row becomes the gradient.
template <typename T>
INLINE float cross_entropy_row(T* row, int64_t label, int64_t columns, const CrossEntropyRule& rule) {
  float largest = load(row[0]);
#pragma omp simd reduction(max : largest)
  for (int64_t i = 0; i < columns; ++i) {
    const float value = load(row[i]);
    largest = value > largest ? value : largest;
  }
  float sum = 0, total = 0;
#pragma omp simd reduction(+ : sum, total)
  for (int64_t i = 0; i < columns; ++i) {
    const float value = load(row[i]) - largest;
    sum += exponential(value);
    total += value;
  }
  const float log_sum = std::log(sum), target = load(row[label]) - largest;
  const auto smoothing = static_cast<float>(rule.smoothing), share = static_cast<float>(rule.share);
  const float even = smoothing / static_cast<float>(columns);
  for (int64_t i = 0; i < columns; ++i) {
    store(row[i], (exponential(load(row[i]) - largest - log_sum) - even) * share);
  }
  store(row[label], (exponential(target - log_sum) - even - (1.0F - smoothing)) * share);
  return (1.0F - smoothing) * (log_sum - target) + smoothing * log_sum - even * total;
}

template <typename T>
INLINE void cross_entropy_rows(T* logits, const int64_t* labels, int64_t columns, const CrossEntropyRule& rule,
                               int64_t begin, int64_t end, float* losses) {
  for (int64_t row = begin; row < end; ++row) {
    T* values = logits + row * columns;
    if (labels[row] != rule.ignored) {
      losses[row] = cross_entropy_row(values, labels[row], columns, rule);
      continue;
    }
    losses[row] = 0;
    for (int64_t i = 0; i < columns; ++i) {
      values[i] = T{0};
    }
  }
}

template <typename T>
INLINE void add_elements(const T* __restrict addend, int64_t begin, int64_t end, float* __restrict sum) {
  for (int64_t i = begin; i < end; ++i) {
    sum[i] += load(addend[i]);
  }
}

}  // namespace

// A template cannot be written for several machines, its instances can.
#define INSTANCES(T)                                                                                                   \
  template <>                                                                                                          \
  FOR_EACH_MACHINE void rms_norm(const T* x, const T* weight, int64_t columns, double eps, int64_t begin, int64_t end, \
                                 T* y, float* scales) {                                                                \
    rms_norm_rows(x, weight, columns, eps, begin, end, y, scales);                                                     \
  }                                                                                                                    \
  template <>                                                                                                          \
  FOR_EACH_MACHINE void rms_norm_backward(const T* grad, const T* x, const T* weight, const float* scales,             \
                                          int64_t columns, int64_t begin, int64_t end, T* grad_x,                      \
                                          float* grad_weight) {                                                        \
    rms_norm_backward_rows(grad, x, weight, scales, columns, begin, end, grad_x, grad_weight);                         \
  }                                                                                                                    \
  template <>                                                                                                          \
  FOR_EACH_MACHINE void silu_and_mul(const T* gate, const T* up, int64_t begin, int64_t end, T* y) {                   \
    silu_and_mul_elements(gate, up, begin, end, y);                                                                    \
  }                                                                                                                    \
  template <>                                                                                                          \
  FOR_EACH_MACHINE void silu_and_mul_backward(const T* grad, const T* gate, const T* up, int64_t begin, int64_t end,   \
                                              T* grad_gate, T* grad_up) {                                              \
    silu_and_mul_backward_elements(grad, gate, up, begin, end, grad_gate, grad_up);                                    \
  }                                                                                                                    \
  template <>                                                                                                          \
  FOR_EACH_MACHINE void gelu_new(const T* x, int64_t begin, int64_t end, T* y) {                                       \
    gelu_new_elements(x, begin, end, y);                                                                               \
  }                                                                                                                    \
  template <>                                                                                                          \
  FOR_EACH_MACHINE void gelu_new_backward(const T* grad, const T* x, int64_t begin, int64_t end, T* grad_x) {          \
    gelu_new_backward_elements(grad, x, begin, end, grad_x);                                                           \
  }                                                                                                                    \
  template <>                                                                                                          \
  FOR_EACH_MACHINE void rotate_halves(const T* x, const T* cos, const T* sin, int64_t dim, bool back, T* y) {          \
    rotate_halves_of(x, cos, sin, dim, back, y);                                                                       \
  }                                                                                                                    \
  template <>                                                                                                          \
  FOR_EACH_MACHINE void rotate_neighbours(const T* x, const T* cos, const T* sin, int64_t rotary_dim, int64_t dim,     \
                                          bool back, T* y) {                                                           \
    rotate_neighbours_of(x, cos, sin, rotary_dim, dim, back, y);                                                       \
  }                                                                                                                    \
  template <>                                                                                                          \
  FOR_EACH_MACHINE void cross_entropy(T* logits, const int64_t* labels, int64_t columns, const CrossEntropyRule& rule, \
                                      int64_t begin, int64_t end, float* losses) {                                     \
    cross_entropy_rows(logits, labels, columns, rule, begin, end, losses);                                             \
  }                                                                                                                    \
  template <>                                                                                                          \
  FOR_EACH_MACHINE void add(const T* addend, int64_t begin, int64_t end, float* sum) {                                 \
    add_elements(addend, begin, end, sum);                                                                             \
  }

INSTANCES(float)
INSTANCES(BFloat16Bits)

}  // namespace transformers::kernels
