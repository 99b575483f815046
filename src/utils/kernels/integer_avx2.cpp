// The integer matmuls compiled for x86-64-v3 (AVX2, FMA, F16C, BMI).
#include "utils/kernels/generic/integer_kernels.h"

namespace transformers::kernels::avx2 {

constinit const IntegerKernels kInteger = kIntegerKernels;

}  // namespace transformers::kernels::avx2
