#pragma once

#include <transformers/utils/distributed/process_group.h>

namespace transformers {

/// What a rank brings to a rendezvous.
struct Registration {
  int64_t rank = 0, size = 0;
  /// What all ranks have to agree on, e.g. "4 ranks over gloo".
  std::string terms{};
  std::chrono::steady_clock::time_point deadline{};
  /// Named in the error when the deadline passes.
  std::chrono::milliseconds timeout{};
};

/// Returns when every rank has registered in the store with the same terms. Returns a store for all further
/// communication, which no earlier rendezvous has used. Throws, naming the ranks, when two processes claim the same
/// rank, terms differ, or some ranks do not register before the deadline.
Store meet(const Store& store, const Registration& registration);

}  // namespace transformers
