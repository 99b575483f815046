// The matmuls compiled for what the library itself is compiled for.
#include "utils/kernels/generic/matmul_kernels.h"

namespace transformers::kernels::baseline {

constinit const MatmulTables kMatmul = kMatmulTables;

}  // namespace transformers::kernels::baseline
