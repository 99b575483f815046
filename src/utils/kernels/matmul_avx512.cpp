// The matmuls compiled for x86-64-v4 (AVX-512).
#include "utils/kernels/generic/matmul_kernels.h"

namespace transformers::kernels::avx512 {

constinit const MatmulTables kMatmul = kMatmulTables;

}  // namespace transformers::kernels::avx512
