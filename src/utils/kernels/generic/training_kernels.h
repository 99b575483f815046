#pragma once

#include "utils/kernels/generic/activations.h"
#include "utils/kernels/generic/cross_entropy.h"
#include "utils/kernels/generic/rms_norm.h"
#include "utils/kernels/generic/rotary.h"
#include "utils/kernels/tables.h"

namespace transformers::kernels {
namespace {

template <typename T>
void add(const T* __restrict addend, int64_t count, float* __restrict sum) {
  for (int64_t i = 0; i < count; ++i) {
    sum[i] += load(addend[i]);
  }
}

template <typename T>
constexpr TrainingKernels<T> kTrainingKernels{
    .rms_norm = rms_norm<T>,
    .rms_norm_backward = rms_norm_backward<T>,
    .silu_and_mul = silu_and_mul<T>,
    .silu_and_mul_backward = silu_and_mul_backward<T>,
    .gelu_new = gelu_new<T>,
    .gelu_new_backward = gelu_new_backward<T>,
    .rotate_halves = rotate_halves<T>,
    .rotate_interleaved = rotate_interleaved<T>,
    .cross_entropy = cross_entropy<T>,
    .add = add<T>,
};

constexpr TrainingTables kTrainingTables{kTrainingKernels<float>, kTrainingKernels<BFloat16Bits>};

}  // namespace
}  // namespace transformers::kernels
