#include <transformers/utils/training/keep_freed_memory.h>

#include <cstdlib>

#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace transformers {

void keep_freed_memory() {
#ifdef __GLIBC__
  constexpr int kLargestBlockInHeap = 32 << 20;  // glibc's own limit
  constexpr int kGrowth = 64 << 20;
  mallopt(M_MMAP_THRESHOLD, kLargestBlockInHeap);
  mallopt(M_TRIM_THRESHOLD, -1);
  mallopt(M_TOP_PAD, kGrowth);
#endif
}

}  // namespace transformers
