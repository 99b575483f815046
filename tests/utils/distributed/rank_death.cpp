#include "utils/distributed/rank_death.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "support/tensor_assertions.h"

namespace transformers::testing {
namespace {

using namespace std::chrono_literals;

constexpr int kDied = 9;
constexpr auto kTimeout = 10s, kLimit = 8s;

/// What gtest has seen of failures in this process.
int failures() { return ::testing::UnitTest::GetInstance()->current_test_info()->result()->total_part_count(); }

/// In a process of its own: 0 when nothing failed in it, or what it ended with.
int status_of_fork(const std::function<void()>& body) {
  std::fflush(nullptr);
  const auto child = fork();
  if (child != 0) {
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  const auto before = failures();
  try {
    body();
  } catch (const std::exception& error) {
    ADD_FAILURE() << "an exception ended the rank: " << error.what();
  }
  std::fflush(nullptr);
  std::_Exit(failures() == before ? 0 : 1);
}

void run_victim(const Rank& rank, const DeathCase& one) {
  const auto operation = one.prepare(rank, rank.join(kTimeout, one.check_collectives));
  if (one.dies_inside) {
    operation();
    ADD_FAILURE() << "the rank that was to die came through";
    return;
  }
  die();
}

void run_survivor(const Rank& rank, const DeathCase& one) {
  const auto operation = one.prepare(rank, rank.join(kTimeout, one.check_collectives));
  const auto start = std::chrono::steady_clock::now();
  EXPECT_ERROR(operation(), "rank " + std::to_string(rank.rank) + " of " + std::to_string(rank.size), one.says);
  EXPECT_LT(std::chrono::steady_clock::now() - start, kLimit);
}

}  // namespace

void die() { std::_Exit(kDied); }

void expect_errors_when_a_rank_dies(int64_t ranks, int64_t victim, const std::vector<DeathCase>& cases) {
  const auto body = [&](const Rank& rank) {
    for (const auto& one : cases) {
      SCOPED_TRACE(one.name);
      const Rank own{rank.rank, rank.size, rank / one.name};
      std::filesystem::create_directories(own.folder);
      const bool dies = rank.rank == victim;
      EXPECT_EQ(status_of_fork([&] { dies ? run_victim(own, one) : run_survivor(own, one); }), dies ? kDied : 0);
    }
  };
  run_on_ranks(ranks, body, {.limit = std::chrono::seconds(120)});
}

}  // namespace transformers::testing
