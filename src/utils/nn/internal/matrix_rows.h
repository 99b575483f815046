#pragma once

#include <ATen/core/Tensor.h>

namespace transformers {

/// [..., features] as [rows, features].
inline at::Tensor rows_of(const at::Tensor& tensor) { return tensor.reshape({-1, tensor.size(-1)}); }

/// The rows of a matmul, [rows, out], in the shape of its input [..., in]: [..., out].
inline at::Tensor rows_in_shape(const at::Tensor& rows, at::IntArrayRef input_sizes) {
  auto sizes = input_sizes.vec();
  sizes.back() = rows.size(1);
  return rows.view(sizes);
}

}  // namespace transformers
