#pragma once

#include <transformers/export.h>

namespace TRANSFORMERS_API transformers {

/// Makes glibc keep freed memory for the next allocation instead of returning it to the system. A training step
/// allocates the same blocks again and again; the kernel would otherwise clear each of them page by page, which takes a
/// fifth of the time of a step on a CPU. Peak memory grows by a few per cent. Call it before training, on any thread;
/// it affects the whole process. Without glibc it does nothing.
void keep_freed_memory();

}  // namespace transformers
