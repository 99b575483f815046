#include "utils/nn/internal/parallel_for.h"

#include <ATen/Parallel.h>

#if !defined(INTRA_OP_PARALLEL) && !defined(__clang_analyzer__)
#error "this file is compiled with OpenMP, see CMakeLists.txt: without it at::parallel_for is a plain loop"
#endif

namespace transformers {

void parallel_for(int64_t begin, int64_t end, int64_t grain_size, c10::function_ref<void(int64_t, int64_t)> loop) {
  at::parallel_for(begin, end, grain_size, loop);
}

}  // namespace transformers
