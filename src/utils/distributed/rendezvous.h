#pragma once

#include <transformers/utils/distributed/process_group.h>

namespace transformers {

/// Returns when every rank has come to the store and said the same `terms`: "4 ranks over gloo". What the ranks have to
/// say to each other from then on belongs into the store it returns, which no earlier meeting has used. Throws, naming
/// the ranks, when two processes are one rank, terms differ, or some do not come before the deadline; `timeout` is what
/// it then names.
Store meet(const Store& store, int64_t rank, int64_t size, const std::string& terms, std::chrono::milliseconds timeout,
           std::chrono::steady_clock::time_point deadline);

}  // namespace transformers
