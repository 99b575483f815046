#pragma once

#include "utils/kernels/generic/few_rows.h"
#include "utils/kernels/generic/many_rows.h"
#include "utils/kernels/tables.h"

namespace transformers::kernels {
namespace {

template <typename T>
void to_float(const T* x, int64_t count, float* y) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    write(y + i, load_floats(x + i));
  }
  for (; i < count; ++i) {
    y[i] = load(x[i]);
  }
}

template <typename T>
constexpr MatmulKernels<T> kMatmulKernels{
    .to_float = to_float<T>,
    .few_rows = few_rows<T>,
    .panels = panels,
    .pack_left = pack_left<T>,
    .workspace_size = kWorkspace,
    .many_rows = many_rows<T>,
};

constexpr MatmulTables kMatmulTables{kMatmulKernels<float>, kMatmulKernels<BFloat16Bits>, kMatmulKernels<Float16Bits>};

}  // namespace
}  // namespace transformers::kernels
