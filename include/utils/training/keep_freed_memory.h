#pragma once

#include <transformers/export.h>

namespace TRANSFORMERS_API transformers {

/// Makes glibc keep what is freed for the next allocation instead of giving it back to the system. A training step asks
/// for the same blocks again and again, each of which would otherwise be cleared by the kernel, page by page: a fifth
/// of the time of a step on a CPU. The process holds a few per cent more memory at its peak. Call it before training,
/// on any thread; it is for the whole process. Without glibc nothing happens.
void keep_freed_memory();

}  // namespace transformers
