#include <torch/torch.h>
#include <transformers/utils/distributed/process_group.h>

#include <thread>

#include "support/tensor_assertions.h"
#include "utils/distributed/rank_death.h"

// A rank that dies, comes late or disagrees: the others end with an error that names them and the reason, in time.

namespace transformers {
namespace {

using namespace std::chrono_literals;
using testing::DeathCase;
using testing::expect_errors_when_a_rank_dies;
using testing::Rank;
using testing::run_on_ranks;

using Operation = std::function<void(const ProcessGroup&)>;

DeathCase dying(const std::string& name, const std::string& says, const Operation& operation) {
  return {.name = name, .says = says, .prepare = [operation](const Rank&, const ProcessGroup& group) {
            return [operation, group] { operation(group); };
          }};
}

std::vector<DeathCase> every_operation() {
  return {dying("all_reduce", "all_reduce", [](const auto& group) { group.all_reduce(torch::ones({100})).wait(); }),
          dying("reduce", "reduce", [](const auto& group) { group.reduce(torch::ones({100}), 0).wait(); }),
          dying("all_gather", "all_gather_into_tensor",
                [](const auto& group) {
                  group.all_gather_into_tensor(torch::empty({2, 5}), torch::ones({5})).wait();
                }),
          dying("reduce_scatter", "reduce_scatter_tensor",
                [](const auto& group) { group.reduce_scatter_tensor(torch::empty({5}), torch::ones({10})).wait(); }),
          dying("all_to_all", "all_to_all_single",
                [](const auto& group) { group.all_to_all_single(torch::empty({4}), torch::ones({4})).wait(); }),
          dying("broadcast", "broadcast", [](const auto& group) { group.broadcast(torch::ones({4}), 1).wait(); }),
          dying("broadcast_coalesced", "broadcast_coalesced",
                [](const auto& group) {
                  group.broadcast_coalesced({torch::ones({4}), torch::ones({2}, at::kLong)}, 1024, 1);
                }),
          dying("send", "send to rank 1", [](const auto& group) { group.send(torch::ones({4}), 1).wait(); }),
          dying("recv", "recv from rank 1", [](const auto& group) { group.recv(torch::ones({4}), 1).wait(); }),
          dying("barrier", "barrier", [](const auto& group) { group.barrier(); }),
          dying("monitored_barrier", "monitored_barrier", [](const auto& group) { group.monitored_barrier(2s); }),
          dying("new_group", "all_gather_into_tensor", [](const auto&) {
            new_group({0, 1});
          })};
}

TEST(RankFailureTest, EveryOperationEndsWhenARankDies) { expect_errors_when_a_rank_dies(2, 1, every_operation()); }

// With checks on, it is the check that meets the dead rank.
TEST(RankFailureTest, EveryOperationThatIsNotCheckedEndsWhenARankDies) {
  auto cases = every_operation();
  for (auto& one : cases) {
    one.check_collectives = false;
  }
  expect_errors_when_a_rank_dies(2, 1, cases);
}

TEST(RankFailureTest, OperationsOfFourEndWhenARankDies) {
  expect_errors_when_a_rank_dies(
      4, 1,
      {dying("all_reduce", "all_reduce", [](const auto& group) { group.all_reduce(torch::ones({100})).wait(); }),
       dying("reduce", "reduce", [](const auto& group) { group.reduce(torch::ones({100}), 3).wait(); })});
}

TEST(RankFailureTest, InitCanBeTriedAgainAfterARankDidNotCome) {
  run_on_ranks(2, [](const Rank& rank) {
    const auto store = rank.store();
    const auto join = [&](std::chrono::milliseconds timeout) {
      return init_process_group({.store = store, .rank = rank.rank, .world_size = rank.size, .timeout = timeout});
    };
    if (rank.rank == 0) {
      EXPECT_ERROR(join(300ms), "rank 0 of 2", "rank 1 has not joined");
      EXPECT_FALSE(is_initialized());
      store.set("rank 0 has given up", "");
    } else {
      store.wait({"rank 0 has given up"}, 10s);
      EXPECT_ERROR(join(300ms), "rank 1 of 2");
    }
    join(10s);
    destroy_process_group();
  });
}

TEST(RankFailureTest, MonitoredBarrierNamesTheRankThatIsMissing) {
  run_on_ranks(4, [](const Rank& rank) {
    const auto group = rank.join();
    if (rank.rank == 2) {
      std::this_thread::sleep_for(2s);
      return;
    }
    if (rank.rank == 0) {
      EXPECT_ERROR(group.monitored_barrier(500ms), "rank 0 of 4", "monitored_barrier", "2");
    } else {
      EXPECT_ERROR(group.monitored_barrier(500ms), "monitored_barrier");
    }
  });
}

TEST(RankFailureTest, ARankThatNeverComesIsWaitedForNoLongerThanTheTimeout) {
  run_on_ranks(2, [](const Rank& rank) {
    rank.join();
    const auto group = *new_group({0, 1}, 500ms);
    if (rank.rank == 1) {
      std::this_thread::sleep_for(3s);
      return;
    }
    const auto start = std::chrono::steady_clock::now();
    EXPECT_ERROR(group.all_reduce(torch::ones({4})).wait(), "rank 0 of 2", "all_reduce", "500");
    EXPECT_LT(std::chrono::steady_clock::now() - start, 2s);
  });
}

TEST(RankFailureTest, RanksThatDisagreeAreToldOnWhat) {
  run_on_ranks(2, [](const Rank& rank) {
    const auto group = rank.join();
    const auto own = "rank " + std::to_string(rank.rank) + " of 2";
    EXPECT_ERROR((void)group.all_reduce(torch::ones({1 + 1000 * rank.rank})), own, "disagree",
                 "all_reduce sum of Float [1]", "all_reduce sum of Float [1001]");
    EXPECT_ERROR((void)group.all_reduce(torch::ones({2}, rank.rank == 0 ? at::kFloat : at::kLong)), own, "Float [2]",
                 "Long [2]");
    const auto differ = [&] {
      const auto tensor = torch::ones({2});
      (void)(rank.rank == 0 ? group.all_reduce(tensor) : group.broadcast(tensor, 0));
    };
    EXPECT_ERROR(differ(), own, "all_reduce sum", "broadcast from rank 0");
    const auto size = 2 + 2 * rank.rank;
    EXPECT_ERROR((void)group.reduce(torch::ones({2}), rank.rank), own, "reduce sum to rank 0", "reduce sum to rank 1");
    EXPECT_ERROR((void)group.all_gather_into_tensor(torch::ones({2, size}), torch::ones({size})), own,
                 "all_gather_into_tensor of Float [2]", "all_gather_into_tensor of Float [4]");
    EXPECT_ERROR((void)group.reduce_scatter_tensor(torch::ones({size}), torch::ones({2, size})), own,
                 "reduce_scatter_tensor sum of Float [2, 2]", "reduce_scatter_tensor sum of Float [2, 4]");
    EXPECT_ERROR((void)group.all_to_all_single(torch::ones({size}), torch::ones({size})), own,
                 "all_to_all_single of Float [2]", "all_to_all_single of Float [4]");
    EXPECT_ERROR((void)group.broadcast(torch::ones({2}), rank.rank), own, "from rank 0", "from rank 1");
    EXPECT_ERROR(group.broadcast_coalesced(std::vector<at::Tensor>(90 + rank.rank, torch::ones({2, 3})), 1024, 0), own,
                 "90 tensors", "91 tensors");
    group.barrier();  // all of it left the group usable
    destroy_process_group();
  });
}

TEST(RankFailureTest, AReceiverOfAnotherSizeWaitsForItsTimeoutOnly) {
  run_on_ranks(2, [](const Rank& rank) {
    rank.join();
    const auto group = *new_group({0, 1}, 1s);
    const auto exchange = [&] {
      if (rank.rank == 0) {
        group.send(torch::ones({100}), 1).wait();
      } else {
        group.recv(torch::ones({2}), 0).wait();
      }
    };
    EXPECT_ERROR(exchange(), rank.rank == 0 ? "rank 0 of 2: send to rank 1" : "rank 1 of 2: recv from rank 0");
  });
}

// Rank 1 is gone before it has met rank 0, as a process that was killed while it loaded LibTorch.
TEST(RankFailureTest, RanksThatNeverMetEndWithinTheirOwnTimeout) {
  run_on_ranks(2, [](const Rank& rank) {
    const auto begin = std::chrono::steady_clock::now();
    if (rank.rank == 0) {
      EXPECT_ERROR(init_process_group({.store = rank.store(), .rank = 0, .world_size = 2, .join_timeout = 500ms}),
                   "rank 0 of 2", "rank 1 has not joined within 500 ms");
      EXPECT_LT(std::chrono::steady_clock::now() - begin, 20s);
    }
  });
  EXPECT_LE(ProcessGroupOptions().join_timeout, 10min);
}

// Rank 1 meets and dies before the two are connected.
TEST(RankFailureTest, ARankThatDiesBeforeItIsConnectedEndsTheOther) {
  run_on_ranks(2, [](const Rank& rank) {
    const auto store = rank.store();
    if (rank.rank == 1) {
      const auto place = store.with_prefix("job0");
      place.add("arrivals", 1);
      const auto meeting = place.with_prefix("meeting0");
      meeting.add("claims/1", 1);
      meeting.set("terms/1", "2 ranks over gloo");
      std::_Exit(0);
    }
    const auto begin = std::chrono::steady_clock::now();
    EXPECT_ERROR(init_process_group({.store = store, .rank = 0, .world_size = 2, .join_timeout = 2s}), "rank 0 of 2",
                 "connecting over gloo");
    EXPECT_LT(std::chrono::steady_clock::now() - begin, 30s);
  });
}

}  // namespace
}  // namespace transformers
