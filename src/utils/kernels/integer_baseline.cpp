// The integer matmuls compiled for what the library itself is compiled for.
#include "utils/kernels/generic/integer_kernels.h"

namespace transformers::kernels::baseline {

constinit const IntegerKernels kInteger = kIntegerKernels;

}  // namespace transformers::kernels::baseline
