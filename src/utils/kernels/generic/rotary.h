#pragma once

#include "utils/kernels/generic/elements.h"

namespace transformers::kernels {
namespace {

template <typename T>
void rotate_halves(const T* __restrict x, const T* __restrict cos, const T* __restrict sin, int64_t dim, bool back,
                   T* __restrict y) {
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
void rotate_interleaved(const T* __restrict x, const T* __restrict cos, const T* __restrict sin, int64_t rotary_dim,
                        int64_t dim, bool back, T* __restrict y) {
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

}  // namespace
}  // namespace transformers::kernels
