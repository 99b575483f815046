#pragma once

#include <transformers/utils/distributed/process_group.h>

#include <string>

namespace transformers {

/// Throws on every rank, naming two that differ, unless all ranks of the group call it with the same `operation`: gloo
/// ends a process that receives more than it expects. Does nothing for a single rank or when checks are off.
void check_same_operation(const ProcessGroup& group, const std::string& operation);

/// "Float [2, 3]".
std::string shape_text(const at::Tensor& tensor);

/// gloo distinguishes messages between two ranks by their tag. This tag includes the size, so that a receiver that
/// expects another size waits until its timeout instead of ending the process.
int tag_with_size(const at::Tensor& tensor, int tag);

}  // namespace transformers
