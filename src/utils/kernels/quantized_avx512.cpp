// The quantised kernels compiled for x86-64-v4 (AVX-512). Sums may be added up in any order here, see CMakeLists.txt.
#include "utils/kernels/generic/quantized_kernels.h"

namespace transformers::kernels::avx512 {

constinit const QuantizedKernels kQuantized = kQuantizedKernels;

}  // namespace transformers::kernels::avx512
