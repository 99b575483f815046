#include "utils/io/allocation_watch.h"

#include <algorithm>
#include <cstdlib>
#include <new>

namespace {

thread_local bool watching = false;
thread_local size_t largest_seen = 0;
thread_local size_t total_seen = 0;

}  // namespace

// The other forms of new and delete call these.
void* operator new(size_t size) {
  if (watching) {
    largest_seen = std::max(largest_seen, size);
    total_seen += size;
  }
  if (void* memory = std::malloc(std::max<size_t>(size, 1))) {
    return memory;
  }
  throw std::bad_alloc();
}

void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t /*size*/) noexcept { std::free(memory); }

namespace transformers::testing {

AllocationWatch::AllocationWatch() {
  largest_seen = total_seen = 0;
  watching = true;
}

AllocationWatch::~AllocationWatch() { watching = false; }

size_t AllocationWatch::largest() const { return largest_seen; }
size_t AllocationWatch::total() const { return total_seen; }

}  // namespace transformers::testing
