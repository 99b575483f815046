// The quantised kernels compiled for what the library itself is compiled for. Sums may be added up in any order here,
// see CMakeLists.txt.
#include "utils/kernels/generic/quantized_kernels.h"

namespace transformers::kernels::baseline {

constinit const QuantizedKernels kQuantized = kQuantizedKernels;

}  // namespace transformers::kernels::baseline
