#pragma once

#include <transformers/export.h>
#include <transformers/utils/distributed/process_group.h>

#include <functional>

namespace TRANSFORMERS_API transformers {

/// Runs each rank's own step, which is no collective; returns when all ranks are done. When it throws on some, every
/// rank throws the reason of the first of them. All ranks of the group call it.
void together(const ProcessGroup& group, const std::function<void()>& step);

}  // namespace transformers
