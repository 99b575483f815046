#pragma once

#include <ATen/Dispatch.h>

#include <limits>

namespace transformers {

/// `torch.finfo(dtype).min`.
inline double smallest_value(at::ScalarType dtype) {
  return AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, dtype, "smallest_value",
                                         [] { return static_cast<double>(std::numeric_limits<scalar_t>::lowest()); });
}

}  // namespace transformers
