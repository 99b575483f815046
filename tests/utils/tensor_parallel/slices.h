#pragma once

#include <ATen/core/Tensor.h>
#include <transformers/utils/tensor_parallel/tensor_parallel.h>

#include <string>

namespace transformers::testing {

/// What the rank is to hold of a tensor of the whole model.
inline at::Tensor own_slice(const at::Tensor& whole, const std::string& name, const TensorParallel& parallel) {
  const auto found = parallel.slices.find(name);
  if (found == parallel.slices.end()) {
    return whole;
  }
  const auto& part = found->second.parts[static_cast<size_t>(parallel.group.rank())];
  return whole.narrow(found->second.dim, part.start, part.length);
}

}  // namespace transformers::testing
