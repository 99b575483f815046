// Under a fuzzer everything runs on one thread: in place of utils/nn/parallel_for.cpp, which needs a compiler's OpenMP.
#include "utils/nn/internal/parallel_for.h"

namespace transformers {

void parallel_for(int64_t begin, int64_t end, int64_t /*grain_size*/, c10::function_ref<void(int64_t, int64_t)> loop) {
  if (begin < end) {
    loop(begin, end);
  }
}

}  // namespace transformers
