#pragma once

#include <transformers/utils/distributed/process_group.h>

#include <string>

namespace transformers {

/// Throws on every rank, naming two that differ, unless all ranks of the group come with the same `operation`: gloo
/// ends a process that receives more than it expects. Nothing for one rank or where checks are off.
void check_same_operation(const ProcessGroup& group, const std::string& operation);

/// "Float [2, 3]".
std::string shape_text(const at::Tensor& tensor);

/// gloo tells messages between two ranks apart by their tag. With the size in it, a receiver that expects another one
/// waits until its timeout instead of being ended.
int tag_with_size(const at::Tensor& tensor, int tag);

}  // namespace transformers
