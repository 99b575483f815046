#pragma once

#include <transformers/utils/distributed/process_group.h>

#include <chrono>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace transformers::testing {

/// One process of a test that runs in several.
struct Rank {
  int64_t rank = 0;
  int64_t size = 1;
  std::string folder{};  // of the test, the same on all ranks

  std::string operator/(const std::string& name) const { return folder + "/" + name; }
  /// A store in a file of the test's folder: the n-th call on each rank gives the same one, another call another.
  Store store() const;
  /// Joins the other ranks over that store.
  ProcessGroup join(std::chrono::milliseconds timeout = std::chrono::seconds(10), bool check_collectives = true) const;
};

struct RankResult {
  int status;  // 128 + signal for a process that a signal ended
  std::string output;
};

struct LaunchOptions {
  std::chrono::seconds limit = std::chrono::seconds(60);
  std::map<int64_t, int> expected_status{};  // by rank; others must end with 0
  std::map<std::string, std::string> environment{};
};

/// In the test itself: runs it again in one process a rank, this test alone, and fails unless all end as expected
/// within the limit and leave no process behind. In such a process: calls `body` with the rank, and returns nothing.
std::vector<RankResult> run_on_ranks(int64_t ranks, const std::function<void(const Rank&)>& body,
                                     const LaunchOptions& options = {});

struct TorchrunOptions {
  std::chrono::seconds limit = std::chrono::seconds(60);
  std::vector<std::string> arguments{};  // further ones of torchrun
  std::map<std::string, std::string> environment{};
  int expected_status = 0;
};

/// The same, started by torchrun. The one result is torchrun's own. Skips the test where there is no torchrun.
std::vector<RankResult> run_under_torchrun(int64_t ranks, const std::function<void(const Rank&)>& body,
                                           const TorchrunOptions& options = {});

}  // namespace transformers::testing
