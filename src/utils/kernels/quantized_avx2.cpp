// The quantised kernels compiled for x86-64-v3 (AVX2, FMA, F16C, BMI). Sums may be added up in any order here, see
// CMakeLists.txt.
#include "utils/kernels/generic/quantized_kernels.h"

namespace transformers::kernels::avx2 {

constinit const QuantizedKernels kQuantized = kQuantizedKernels;

}  // namespace transformers::kernels::avx2
