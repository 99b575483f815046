#pragma once

#include "utils/kernels/generic/elements.h"

namespace transformers::kernels {
namespace {

template <typename T>
void silu_and_mul(const T* gate, const T* up, int64_t count, T* y) {
  for (int64_t i = 0; i < count; ++i) {
    const float x = load(gate[i]);
    store(y[i], rounded<T>(x * sigmoid(x)) * load(up[i]));
  }
}

template <typename T>
void silu_and_mul_backward(const T* grad, const T* gate, const T* up, int64_t count, T* grad_gate, T* grad_up) {
  for (int64_t i = 0; i < count; ++i) {
    const float x = load(gate[i]), g = load(grad[i]), s = sigmoid(x);
    store(grad_up[i], g * rounded<T>(x * s));
    store(grad_gate[i], rounded<T>(g * load(up[i])) * (s * (1.0F + x * (1.0F - s))));
  }
}

constexpr float kSqrtTwoOverPi = 0.7978845608028654F, kCubic = 0.044715F;

template <typename T>
void gelu_new(const T* x, int64_t count, T* y) {
  for (int64_t i = 0; i < count; ++i) {
    const float v = load(x[i]);
    const float sum = rounded<T>(v + rounded<T>(kCubic * rounded<T>(v * v * v)));
    const float tanh = rounded<T>(tanh_of(rounded<T>(kSqrtTwoOverPi * sum)));
    store(y[i], rounded<T>(0.5F * v) * rounded<T>(1.0F + tanh));
  }
}

template <typename T>
void gelu_new_backward(const T* grad, const T* x, int64_t count, T* grad_x) {
  for (int64_t i = 0; i < count; ++i) {
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

}  // namespace
}  // namespace transformers::kernels
