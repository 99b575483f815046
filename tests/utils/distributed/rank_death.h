#pragma once

#include <transformers/utils/distributed/process_group.h>

#include <functional>
#include <string>
#include <vector>

#include "utils/distributed/rank_launcher.h"

namespace transformers::testing {

/// What a rank that dies is to end on all others.
struct DeathCase {
  std::string name{};
  std::string says{};  // in the others' errors, besides "rank R of N"
  /// Runs on every rank. What it returns runs on those that live on.
  std::function<std::function<void()>(const Rank& rank, const ProcessGroup& group)> prepare{};
  /// The rank dies in the middle of what was returned, by a hook that `prepare` has set, and not before it.
  bool dies_inside = false;
  bool check_collectives = true;
};

/// Ends this process at once, as a rank does that is to die.
[[noreturn]] void die();

/// Fails unless, in each case, the others end with an error that names them and the reason within a few seconds. Each
/// rank is one process, which forks for each case: none may run anything of LibTorch before.
void expect_errors_when_a_rank_dies(int64_t ranks, int64_t victim, const std::vector<DeathCase>& cases);

}  // namespace transformers::testing
