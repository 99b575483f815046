// The integer matmuls compiled for x86-64-v4 (AVX-512).
#include "utils/kernels/generic/integer_kernels.h"

namespace transformers::kernels::avx512 {

constinit const IntegerKernels kInteger = kIntegerKernels;

}  // namespace transformers::kernels::avx512
