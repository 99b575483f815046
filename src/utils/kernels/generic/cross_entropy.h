#pragma once

#include <math.h>

#include "utils/kernels/generic/elements.h"

namespace transformers::kernels {
namespace {

/// Returns the loss of a row and replaces the row by the gradient.
template <typename T>
[[gnu::always_inline]] inline float cross_entropy_row(T* row, int64_t label, int64_t columns,
                                                      const CrossEntropyRule& rule) {
  float largest = load(row[0]);
#pragma omp simd reduction(max : largest) safelen(16)
  for (int64_t i = 0; i < columns; ++i) {
    const float value = load(row[i]);
    largest = value > largest ? value : largest;
  }
  float sum = 0, total = 0;
#pragma omp simd reduction(+ : sum, total) safelen(16)
  for (int64_t i = 0; i < columns; ++i) {
    const float value = load(row[i]) - largest;
    sum += exponential(value);
    total += value;
  }
  const float log_sum = logf(sum), target = load(row[label]) - largest;
  const auto smoothing = static_cast<float>(rule.smoothing), share = static_cast<float>(rule.share);
  const float even = smoothing / static_cast<float>(columns);
  for (int64_t i = 0; i < columns; ++i) {
    store(row[i], (exponential(load(row[i]) - largest - log_sum) - even) * share);
  }
  store(row[label], (exponential(target - log_sum) - even - (1.0F - smoothing)) * share);
  return (1.0F - smoothing) * (log_sum - target) + smoothing * log_sum - even * total;
}

template <typename T>
void cross_entropy(T* logits, const int64_t* labels, int64_t rows, int64_t columns, const CrossEntropyRule& rule,
                   float* losses) {
  for (int64_t row = 0; row < rows; ++row) {
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

}  // namespace
}  // namespace transformers::kernels
