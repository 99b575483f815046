// The matmuls compiled for x86-64-v3 (AVX2, FMA, F16C, BMI).
#include "utils/kernels/generic/matmul_kernels.h"

namespace transformers::kernels::avx2 {

constinit const MatmulTables kMatmul = kMatmulTables;

}  // namespace transformers::kernels::avx2
