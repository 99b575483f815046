#pragma once

#include <transformers/utils/distributed/process_group.h>

namespace transformers {

/// Returns when every rank has registered in the store with the same `terms`, e.g. "4 ranks over gloo". Returns a store
/// for all further communication, which no earlier rendezvous has used. Throws, naming the ranks, when two processes
/// claim the same rank, terms differ, or some ranks do not register before the deadline; `timeout` is what it then
/// names.
Store meet(const Store& store, int64_t rank, int64_t size, const std::string& terms, std::chrono::milliseconds timeout,
           std::chrono::steady_clock::time_point deadline);

}  // namespace transformers
