#include "utils/distributed/rendezvous.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <sstream>

namespace transformers {
namespace {

using Clock = std::chrono::steady_clock;

std::string terms_key(int64_t rank) { return "terms/" + std::to_string(rank); }

/// "rank 2 has", "ranks 1, 2 have".
std::string missing_ranks(const Store& store, int64_t size) {
  std::vector<int64_t> missing;
  for (int64_t rank = 0; rank < size; ++rank) {
    if (!store.contains(terms_key(rank))) {
      missing.push_back(rank);
    }
  }
  std::ostringstream text;
  text << (missing.size() == 1 ? "rank" : "ranks");
  for (size_t i = 0; i < missing.size(); ++i) {
    text << (i == 0 ? " " : ", ") << missing[i];
  }
  text << (missing.size() == 1 ? " has" : " have");
  return text.str();
}

bool comes_before(const Store& store, int64_t rank, Clock::time_point deadline) {
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now());
  try {
    // Stores read 0 as "no timeout".
    store.wait({terms_key(rank)}, std::max(left, std::chrono::milliseconds(1)));
    return true;
  } catch (const c10::Error&) {
    // Only a wait that ran out of time means that the rank is missing; a lost store is an error of its own.
    if (Clock::now() < deadline) {
      throw;
    }
    return store.contains(terms_key(rank));
  }
}

}  // namespace

Store meet(const Store& store, const Registration& registration) {
  const auto& [rank, size, terms, deadline, timeout] = registration;
  // The store may have been used by earlier rendezvous: those of processes that torchrun has replaced by this one and
  // its peers.
  const auto meeting = (store.add("arrivals", 1) - 1) / size;
  const auto place = store.with_prefix("meeting" + std::to_string(meeting));
  TORCH_CHECK(place.add("claims/" + std::to_string(rank), 1) == 1, "rank ", rank, " of ", size,
              " has joined already: two processes are this rank, or the store is left from a job that failed");
  place.set(terms_key(rank), terms);
  for (int64_t other = 0; other < size; ++other) {
    TORCH_CHECK(comes_before(place, other, deadline), "rank ", rank, " of ", size, ": ", missing_ranks(place, size),
                " not joined within ", timeout.count(), " ms");
    const auto found = place.get(terms_key(other));
    TORCH_CHECK(found == terms, "rank ", rank, " of ", size, ": rank ", other, " has joined as one of ", found,
                ", this rank as one of ", terms);
  }
  return place;
}

}  // namespace transformers
