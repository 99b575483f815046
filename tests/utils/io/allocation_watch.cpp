#include "utils/io/allocation_watch.h"

#include <algorithm>
#include <cstdlib>
#include <new>

namespace {

thread_local bool watching = false;
thread_local size_t largest_seen = 0;
thread_local size_t total_seen = 0;

void* watched_allocation(size_t size) noexcept {
  if (watching) {
    largest_seen = std::max(largest_seen, size);
    total_seen += size;
  }
  return std::malloc(std::max<size_t>(size, 1));
}

}  // namespace

// All forms but the aligned ones, for a sanitizer brings its own of those that are missing.
void* operator new(size_t size, const std::nothrow_t& /*tag*/) noexcept { return watched_allocation(size); }
void* operator new[](size_t size, const std::nothrow_t& /*tag*/) noexcept { return watched_allocation(size); }

void* operator new(size_t size) {
  if (void* memory = watched_allocation(size)) {
    return memory;
  }
  throw std::bad_alloc();
}

void* operator new[](size_t size) { return ::operator new(size); }

void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t /*size*/) noexcept { std::free(memory); }
void operator delete(void* memory, const std::nothrow_t& /*tag*/) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory, size_t /*size*/) noexcept { std::free(memory); }
void operator delete[](void* memory, const std::nothrow_t& /*tag*/) noexcept { std::free(memory); }

namespace transformers::testing {

AllocationWatch::AllocationWatch() {
  largest_seen = total_seen = 0;
  watching = true;
}

AllocationWatch::~AllocationWatch() { watching = false; }

size_t AllocationWatch::largest() const { return largest_seen; }
size_t AllocationWatch::total() const { return total_seen; }

}  // namespace transformers::testing
