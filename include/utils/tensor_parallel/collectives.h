#pragma once

#include <ATen/core/Tensor.h>
#include <transformers/export.h>
#include <transformers/utils/distributed/process_group.h>

#include <cstdint>
#include <vector>

namespace TRANSFORMERS_API transformers {

// Collectives that autograd can differentiate. All ranks of the group must call them in the same order, in backward
// too, which is the case when they run the same model. Gradients of gradients are not supported.

/// The part of a dimension that a rank holds.
struct Part {
  int64_t start = 0;
  int64_t length = 0;
};

/// Splits `full` entries over the ranks as evenly as possible; the first ranks have one more.
std::vector<Part> even_parts(int64_t full, int64_t ranks);

/// Returns the input itself, from which each rank then computes its part; backward sums the gradients of all ranks.
at::Tensor copy_to_group(const at::Tensor& input, const ProcessGroup& group);

/// The sum of all ranks' inputs, which have the same shape; backward passes the gradient through, which is the same on
/// every rank.
at::Tensor reduce_from_group(const at::Tensor& input, const ProcessGroup& group);

/// Concatenates all ranks' inputs along the last dimension, whose parts are those of `even_parts(full, group.size())`;
/// backward takes the rank's own part of the gradient. input: [..., part]; returns [..., full].
at::Tensor gather_from_group(const at::Tensor& input, int64_t full, const ProcessGroup& group);

/// Returns the parameter itself: rows of a matrix or vector, of which rank r holds those of `parts[r]`, and several
/// ranks may hold the same rows. Backward sums, row by row, the gradients of all ranks that hold a row, so that the
/// copies stay equal.
at::Tensor share_rows(const at::Tensor& parameter, const std::vector<Part>& parts, const ProcessGroup& group);

}  // namespace transformers
