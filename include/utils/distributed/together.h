#pragma once

#include <transformers/export.h>
#include <transformers/utils/distributed/process_group.h>

#include <functional>

namespace TRANSFORMERS_API transformers {

/// Runs a step on each rank that is not itself a collective, and returns when all ranks are done. If the step throws on
/// some ranks, every rank throws the error of the first of them. All ranks of the group must call it.
void together(const ProcessGroup& group, const std::function<void()>& step);

}  // namespace transformers
