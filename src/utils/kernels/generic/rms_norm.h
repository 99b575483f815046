#pragma once

#include <math.h>

#include "utils/kernels/generic/elements.h"

namespace transformers::kernels {
namespace {

// Values that the inner loops use are copied from the structs, so that the compiler sees that no store changes them.
// Structured bindings would be shorter; clang 14 has none inside an OpenMP loop.

template <typename T>
void rms_norm(const RmsNorm<T>& norm) {
  const T* weight = norm.weight;
  const int64_t columns = norm.columns;
  for (int64_t row = 0; row < norm.rows; ++row) {
    const T* in = norm.x + row * columns;
    T* out = norm.y + row * columns;
    float squares = 0;
#pragma omp simd reduction(+ : squares) safelen(16)
    for (int64_t i = 0; i < columns; ++i) {
      squares += load(in[i]) * load(in[i]);
    }
    const float scale = 1.0F / sqrtf(squares / static_cast<float>(columns) + static_cast<float>(norm.eps));
    norm.scales[row] = scale;
    for (int64_t i = 0; i < columns; ++i) {
      store(out[i], load(weight[i]) * rounded<T>(load(in[i]) * scale));
    }
  }
}

template <typename T>
void rms_norm_backward(const RmsNormBackward<T>& norm) {
  const T* weight = norm.weight;
  float* grad_weight = norm.grad_weight;
  const int64_t columns = norm.columns;
  for (int64_t row = 0; row < norm.rows; ++row) {
    const T *in = norm.x + row * columns, *g = norm.grad + row * columns;
    T* out = norm.grad_x + row * columns;
    const float scale = norm.scales[row];
    float along = 0;  // scalar product of the gradient and the normalised row
#pragma omp simd reduction(+ : along) safelen(16)
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

}  // namespace
}  // namespace transformers::kernels
