#pragma once

#include <cstddef>

namespace transformers::testing {

/// Sees every `operator new` of this thread while it lives.
class AllocationWatch {
 public:
  AllocationWatch();
  ~AllocationWatch();
  AllocationWatch(const AllocationWatch&) = delete;
  AllocationWatch& operator=(const AllocationWatch&) = delete;

  /// Bytes of the largest single allocation, and of all together.
  size_t largest() const;
  size_t total() const;
};

}  // namespace transformers::testing
