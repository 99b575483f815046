#pragma once

#include <c10/util/FunctionRef.h>

#include <cstdint>

namespace transformers {

/// Calls `loop` with parts of [begin, end) of at least `grain_size`, one for each thread of LibTorch's pool. Use it
/// instead of at::parallel_for, which is a template and runs on one thread in files that are compiled without OpenMP.
/// Rethrows an exception from a part.
void parallel_for(int64_t begin, int64_t end, int64_t grain_size, c10::function_ref<void(int64_t, int64_t)> loop);

}  // namespace transformers
