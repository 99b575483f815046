#pragma once

#include <ATen/ATen.h>

#include <vector>

namespace transformers::testing {

/// 1, 2, 3, … in the given shape.
inline at::Tensor ramp(at::IntArrayRef sizes) {
  return at::arange(1, c10::multiply_integers(sizes) + 1, at::kFloat).reshape(sizes);
}

/// A bool tensor of ones and zeros.
inline at::Tensor bools(const std::vector<int64_t>& values) {
  return at::tensor(at::ArrayRef<int64_t>(values)).to(at::kBool);
}

}  // namespace transformers::testing
