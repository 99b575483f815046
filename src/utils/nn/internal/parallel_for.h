#pragma once

#include <c10/util/FunctionRef.h>

#include <cstdint>

namespace transformers {

/// Calls `loop` with parts of [begin, end) of at least `grain_size`, one a thread of LibTorch's pool. To be used in
/// place of at::parallel_for, which is a template and runs on one thread wherever it is compiled without OpenMP. An
/// exception of one part is thrown here.
void parallel_for(int64_t begin, int64_t end, int64_t grain_size, c10::function_ref<void(int64_t, int64_t)> loop);

}  // namespace transformers
