#pragma once

#include <ATen/core/Tensor.h>
#include <transformers/export.h>
#include <transformers/utils/distributed/process_group.h>

#include <cstdint>
#include <vector>

namespace TRANSFORMERS_API transformers {

// Collectives that autograd runs backwards. All ranks of the group call them in the same order, in backward too, which
// they do when they run the same model. Gradients of gradients are not supported.

/// What a rank holds of a dimension.
struct Part {
  int64_t start = 0;
  int64_t length = 0;
};

/// Every rank's part of `full` entries, as even as can be: the first ranks have one more.
std::vector<Part> even_parts(int64_t full, int64_t ranks);

/// The input itself, before each rank computes its part of something with it; backward sums the gradients of all ranks.
at::Tensor copy_to_group(const at::Tensor& input, const ProcessGroup& group);

/// The sum of all ranks' inputs, of one shape; backward hands the gradient through, which is the same on every rank.
at::Tensor reduce_from_group(const at::Tensor& input, const ProcessGroup& group);

/// All ranks' inputs side by side along the last dimension, whose parts are those of `even_parts(full, group.size())`;
/// backward takes the own part of the gradient. input: [..., part]; returns [..., full].
at::Tensor gather_from_group(const at::Tensor& input, int64_t full, const ProcessGroup& group);

/// The parameter itself, rows of a matrix or vector that several ranks may hold alike: rank r those of `parts[r]`.
/// Backward sums, row by row, the gradients of all ranks that hold it, so that they stay alike.
at::Tensor share_rows(const at::Tensor& parameter, const std::vector<Part>& parts, const ProcessGroup& group);

}  // namespace transformers
