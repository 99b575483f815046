// The integer matmuls compiled for x86-64-v4 with AVX-512 VNNI.
#include "utils/kernels/generic/integer_kernels.h"

namespace transformers::kernels::avx512vnni {

constinit const IntegerKernels kInteger = kIntegerKernels;

}  // namespace transformers::kernels::avx512vnni
