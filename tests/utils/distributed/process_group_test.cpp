#include <torch/torch.h>
#include <transformers/utils/distributed/together.h>

#include <thread>

#include "cuda/skip_without_cuda.h"
#include "support/temporary_folder.h"
#include "support/tensor_assertions.h"
#include "utils/distributed/process_counters.h"
#include "utils/distributed/rank_launcher.h"

namespace transformers {
namespace {

using namespace std::chrono_literals;
using testing::Rank;
using testing::run_on_ranks;

at::Tensor filled(std::vector<int64_t> shape, double value, at::ScalarType dtype = at::kFloat) {
  return torch::full(shape, value, dtype);
}

TEST(ProcessGroupTest, KnowsItsRanks) {
  run_on_ranks(2, [](const Rank& rank) {
    const auto group = rank.join();
    EXPECT_EQ(group.rank(), rank.rank);
    EXPECT_EQ(group.size(), 2);
    EXPECT_EQ(group.backend(), "gloo");
    EXPECT_EQ(group.global_ranks(), (std::vector<int64_t>{0, 1}));
    EXPECT_TRUE(default_process_group() == group);
    EXPECT_TRUE(is_initialized());
    destroy_process_group();
    EXPECT_FALSE(is_initialized());
  });
}

TEST(ProcessGroupTest, RunsEveryCollective) {
  run_on_ranks(4, [](const Rank& rank) {
    const auto group = rank.join();
    const auto own = static_cast<double>(rank.rank);

    auto tensor = filled({2, 3}, own);
    group.all_reduce(tensor).wait();
    EXPECT_TENSORS_EQUAL(tensor, filled({2, 3}, 6));
    tensor = filled({2}, own);
    group.all_reduce(tensor, ReduceOp::kAverage).wait();
    EXPECT_TENSORS_EQUAL(tensor, filled({2}, 1.5));
    tensor = filled({2}, own);
    group.all_reduce(tensor, ReduceOp::kMax).wait();
    EXPECT_TENSORS_EQUAL(tensor, filled({2}, 3));
    tensor = filled({2}, own + 1);
    group.all_reduce(tensor, ReduceOp::kProduct).wait();
    EXPECT_TENSORS_EQUAL(tensor, filled({2}, 24));

    tensor = filled({2}, own);
    group.broadcast(tensor, 2).wait();
    EXPECT_TENSORS_EQUAL(tensor, filled({2}, 2));
    tensor = filled({2}, own);
    group.reduce(tensor, 1).wait();
    if (rank.rank == 1) {
      EXPECT_TENSORS_EQUAL(tensor, filled({2}, 6));
    }

    auto gathered = torch::empty({4, 2});
    group.all_gather_into_tensor(gathered, filled({2}, own)).wait();
    EXPECT_TENSORS_EQUAL(gathered, torch::arange(4.0).unsqueeze(1).expand({4, 2}));
    auto part = torch::empty({2});
    group.reduce_scatter_tensor(part, torch::arange(8.0) + own).wait();
    EXPECT_TENSORS_EQUAL(part, 4 * torch::arange(8.0).slice(0, 2 * rank.rank, 2 * rank.rank + 2) + 6);
    auto exchanged = torch::empty({4});
    group.all_to_all_single(exchanged, torch::arange(4.0) + 10 * own).wait();
    EXPECT_TENSORS_EQUAL(exchanged, 10 * torch::arange(4.0) + own);
    group.barrier();
    group.monitored_barrier(5s);
    destroy_process_group();
  });
}

TEST(ProcessGroupTest, SendsFromRankToRank) {
  run_on_ranks(2, [](const Rank& rank) {
    const auto group = rank.join();
    auto tensor = torch::empty({3});
    if (rank.rank == 0) {
      group.send(filled({3}, 5), 1).wait();
      group.recv(tensor, 1, 7).wait();
      EXPECT_TENSORS_EQUAL(tensor, filled({3}, 10));
    } else {
      group.recv(tensor, 0).wait();
      group.send(tensor * 2, 0, 7).wait();
    }
    destroy_process_group();
  });
}

TEST(ProcessGroupTest, TakesEveryDtype) {
  run_on_ranks(2, [](const Rank& rank) {
    const auto group = rank.join();
    for (const auto dtype : {at::kFloat, at::kDouble, at::kHalf, at::kBFloat16, at::kLong, at::kInt, at::kByte}) {
      auto tensor = filled({3}, 1 + rank.rank, dtype);
      group.all_reduce(tensor).wait();
      EXPECT_TENSORS_EQUAL(tensor, filled({3}, 3, dtype));
      auto gathered = torch::empty({2}, dtype);
      group.all_gather_into_tensor(gathered, filled({1}, rank.rank, dtype)).wait();
      EXPECT_TENSORS_EQUAL(gathered, torch::arange(2, dtype));
    }
    destroy_process_group();
  });
}

TEST(ProcessGroupTest, BroadcastsManyTensorsInFewMessages) {
  run_on_ranks(2, [](const Rank& rank) {
    const auto group = rank.join();
    for (const int64_t bucket : {1, 64, 1 << 20}) {
      const auto own = static_cast<double>(rank.rank) + 1;
      const std::vector<at::Tensor> tensors = {
          filled({5}, own),        filled({2, 3}, own, at::kBFloat16), filled({1}, own, at::kLong), filled({0}, own),
          filled({4, 2}, own).t(), filled({3}, own, at::kBool)};
      group.broadcast_coalesced(tensors, bucket, 1);
      EXPECT_TENSORS_EQUAL(tensors[0], filled({5}, 2));
      EXPECT_TENSORS_EQUAL(tensors[1], filled({2, 3}, 2, at::kBFloat16));
      EXPECT_TENSORS_EQUAL(tensors[2], filled({1}, 2, at::kLong));
      EXPECT_TENSORS_EQUAL(tensors[4], filled({2, 4}, 2));
    }
    destroy_process_group();
  });
}

TEST(ProcessGroupTest, ComparesWhatRanksRunUnlessToldNotTo) {
  run_on_ranks(2, [](const Rank& rank) {
    for (const bool check : {true, false}) {
      const auto group = init_process_group({.store = rank.store(),
                                             .rank = rank.rank,
                                             .world_size = rank.size,
                                             .timeout = 10s,
                                             .check_collectives = check});
      const auto before = testing::sent_bytes();
      auto tensor = filled({1}, 1);
      group.all_reduce(tensor).wait();
      EXPECT_EQ(tensor.item<float>(), 2);
      EXPECT_EQ(testing::sent_bytes() - before >= 256, check);
      destroy_process_group();
    }
  });
}

TEST(ProcessGroupTest, RefusesWhatNoCollectiveTakes) {
  run_on_ranks(2, [](const Rank& rank) {
    const auto group = rank.join();
    const auto tensor = torch::ones({2, 3});
    EXPECT_ERROR((void)group.all_reduce(at::Tensor()), "all_reduce", "undefined");
    EXPECT_ERROR((void)group.all_reduce(tensor.t()), "contiguous", "[3, 2]");
    EXPECT_ERROR((void)group.broadcast(tensor, 2), "src", "[0, 2)", "2");
    EXPECT_ERROR((void)group.all_gather_into_tensor(tensor, tensor), "[2, 3]", "2 times");
    EXPECT_ERROR((void)group.reduce_scatter_tensor(tensor, tensor), "2 times");
    EXPECT_ERROR((void)group.all_gather_into_tensor(torch::ones({4, 3}, at::kDouble), tensor), "one dtype");
    EXPECT_ERROR((void)group.all_to_all_single(torch::ones({3}), torch::ones({3})), "divide");
    EXPECT_ERROR((void)group.send(tensor, rank.rank), "another rank");
    EXPECT_ERROR(group.broadcast_coalesced({tensor}, 0, 0), "bucket_size");
    group.barrier();  // nothing was sent
    destroy_process_group();
  });
}

TEST(ProcessGroupTest, CannotBeUsedOnceDestroyed) {
  run_on_ranks(1, [](const Rank& rank) {
    const auto group = rank.join();
    const auto part = new_group({0});
    ASSERT_TRUE(part);
    destroy_process_group(*part);
    EXPECT_ERROR(part->barrier(), "'group0' was destroyed");
    group.barrier();
    destroy_process_group(group);
    EXPECT_ERROR(group.barrier(), "'default' was destroyed");
    EXPECT_ERROR(default_process_group(), "init_process_group");
    EXPECT_NO_THROW(destroy_process_group());
  });
}

TEST(NewGroupTest, ReducesWithinEachPart) {
  run_on_ranks(4, [](const Rank& rank) {
    rank.join();
    const auto even = new_group({2, 0});
    const auto odd = new_group({1, 3});
    EXPECT_EQ(even.has_value(), rank.rank % 2 == 0);
    EXPECT_EQ(odd.has_value(), rank.rank % 2 == 1);
    const auto& own = even ? *even : *odd;
    EXPECT_EQ(own.size(), 2);
    EXPECT_EQ(own.rank(), rank.rank / 2);
    EXPECT_EQ(own.global_ranks(), (std::vector<int64_t>{rank.rank % 2, rank.rank % 2 + 2}));
    auto tensor = filled({1}, rank.rank);
    own.all_reduce(tensor).wait();
    EXPECT_TENSORS_EQUAL(tensor, filled({1}, even ? 2 : 4));
    destroy_process_group();
  });
}

TEST(NewGroupTest, ThrowsOnEveryRankWhenTheListsDifferOrAreWrong) {
  run_on_ranks(2, [](const Rank& rank) {
    rank.join();
    EXPECT_ERROR(new_group({rank.rank}), "rank 0 gave [0]", "rank 1 gave [1]");
    EXPECT_ERROR(new_group({}), "at least one rank");
    EXPECT_ERROR(new_group({0, 2}), "[0, 2)");
    EXPECT_ERROR(new_group({0, 0}), "once", "[0, 0]");
    EXPECT_TRUE(new_group({0, 1}));
    destroy_process_group();
  });
}

TEST(InitProcessGroupTest, RunsAgainAfterItsEnd) {
  run_on_ranks(2, [](const Rank& rank) {
    const auto store = rank.store();
    for (int round = 0; round < 2; ++round) {
      const auto group =
          init_process_group({.store = store, .rank = rank.rank, .world_size = rank.size, .timeout = 10s});
      auto tensor = filled({1}, 1);
      group.all_reduce(tensor).wait();
      EXPECT_EQ(tensor.item<float>(), 2);
      destroy_process_group();
    }
  });
}

TEST(InitProcessGroupTest, MeetsInAStoreThatHasSeenOthersMeet) {
  run_on_ranks(4, [](const Rank& rank) {
    // Ranks 0 and 1 are two jobs of two, one after the other, on one store: as workers and those that replace them.
    const auto store = Store::file(rank / "shared", 4);
    const auto job = rank.rank / 2;
    if (job == 1) {
      store.wait({"first job is done"}, 10s);
    }
    const auto group = init_process_group({.store = store, .rank = rank.rank % 2, .world_size = 2, .timeout = 10s});
    auto tensor = filled({1}, rank.rank);
    group.all_reduce(tensor).wait();
    EXPECT_EQ(tensor.item<float>(), job == 0 ? 1 : 5);
    destroy_process_group();
    if (rank.rank == 0) {
      store.set("first job is done", "");
    }
  });
}

TEST(InitProcessGroupTest, MeetsOverATcpStoreOnAFreePort) {
  for (const bool use_libuv : {true, false}) {
    const auto server = Store::tcp({.port = 0, .is_server = true, .use_libuv = use_libuv});
    EXPECT_GT(server.port(), 0);
  }
  run_on_ranks(2, [](const Rank& rank) {
    const auto exchange = rank.store();
    std::optional<Store> store;
    if (rank.rank == 0) {
      store = Store::tcp({.port = 0, .is_server = true});
      exchange.set("port", std::to_string(store->port()));
    } else {
      store = Store::tcp({.port = static_cast<uint16_t>(std::stoi(exchange.get("port")))});
    }
    const auto group = init_process_group({.store = store, .rank = rank.rank, .world_size = 2, .timeout = 10s});
    group.barrier();
    destroy_process_group();
  });
}

TEST(InitProcessGroupTest, RefusesWrongOptions) {
  const auto store = Store::file("/dev/null", 1);
  EXPECT_ERROR(init_process_group({.backend = "mpi", .store = store, .rank = 0, .world_size = 1}), "backend", "mpi");
  EXPECT_ERROR(init_process_group({.store = store, .rank = 2, .world_size = 2}), "rank", "[0, 2)", "2");
  EXPECT_ERROR(init_process_group({.store = store, .rank = 0, .world_size = 0}), "world_size", "0");
  EXPECT_ERROR(init_process_group({.store = store, .rank = 0, .world_size = 1, .timeout = 0ms}), "timeout");
  EXPECT_ERROR(init_process_group({.store = store, .world_size = 1}), "RANK", "torchrun");
  EXPECT_ERROR(default_process_group(), "init_process_group");
  EXPECT_ERROR(new_group({0}), "init_process_group");
}

TEST(InitProcessGroupTest, RefusesASecondGroupInOneProcess) {
  run_on_ranks(1, [](const Rank& rank) {
    rank.join();
    EXPECT_ERROR(rank.join(), "already");
    destroy_process_group();
  });
}

TEST(InitProcessGroupTest, NamesTheRanksThatDoNotCome) {
  run_on_ranks(2, [](const Rank& rank) {
    if (rank.rank == 0) {
      EXPECT_ERROR(init_process_group({.store = rank.store(), .rank = 0, .world_size = 3, .timeout = 500ms}),
                   "rank 0 of 3", "ranks 1, 2 have not joined", "500 ms");
    }
  });
}

TEST(InitProcessGroupTest, NamesARankThatTwoProcessesClaim) {
  const auto results = run_on_ranks(2, [](const Rank& rank) {
    const auto join = [&] {
      init_process_group({.store = rank.store(), .rank = 0, .world_size = 2, .timeout = 500ms});
    };
    // One is told that the rank is taken, the other that its partner is missing.
    EXPECT_ERROR(join(), "rank 0 of 2", "joined");
  });
}

TEST(InitProcessGroupTest, NamesTheRankThatDisagreesOnTheSize) {
  run_on_ranks(2, [](const Rank& rank) {
    const auto join = [&] {
      init_process_group({.store = rank.store(), .rank = rank.rank, .world_size = 2 + rank.rank, .timeout = 5s});
    };
    EXPECT_ERROR(join(), "rank", "2 ranks over gloo", "3 ranks over gloo");
  });
}

TEST(InitProcessGroupTest, EndsWhenTheServerOfTheStoreIsNotThere) {
  const auto start = std::chrono::steady_clock::now();
  ::testing::internal::CaptureStderr();
  EXPECT_ERROR(Store::tcp({.port = 1, .timeout = 500ms}), "localhost:1", "cannot be reached", "refused");
  // LibTorch's store would tell stderr of each attempt, and begin again after its timeout.
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
  EXPECT_LT(std::chrono::steady_clock::now() - start, 5s);
  EXPECT_ERROR(Store::tcp({.port = 0}), "port");
}

// What waits for the server of the store and for the other ranks shares one timeout.
TEST(InitProcessGroupTest, ARankThatComesAfterTheTimeoutIsAnError) {
  uint16_t port = 0;
  { port = Store::tcp({.port = 0, .is_server = true}).port(); }
  std::thread late([&] {
    std::this_thread::sleep_for(1500ms);
    const auto server = Store::tcp({.port = port, .is_server = true});
    std::this_thread::sleep_for(1500ms);
  });
  EXPECT_ERROR(Store::tcp({.port = port, .timeout = 1000ms}), "cannot be reached");
  late.join();
}

TEST(InitProcessGroupTest, NcclNeedsACudaDevice) {
  if (cuda_device_count() > 0) {
    GTEST_SKIP() << "there is a CUDA device";
  }
  EXPECT_ERROR(
      init_process_group(
          {.backend = "nccl", .store = Store::file("/dev/null", 1, 1s), .rank = 0, .world_size = 1, .timeout = 1s}),
      "cuda");
}

TEST(InitProcessGroupTest, EachBackendRefusesTheDevicesOfTheOther) {
  const auto store = Store::file("/dev/null", 1, 1s);
  EXPECT_ERROR(init_process_group({.backend = "nccl",
                                   .store = store,
                                   .rank = 0,
                                   .world_size = 1,
                                   .device = c10::Device(c10::kCPU),
                                   .timeout = 1s}),
               "nccl", "cpu");
  EXPECT_ERROR(
      init_process_group({.store = store, .rank = 0, .world_size = 1, .device = c10::Device("cuda:0"), .timeout = 1s}),
      "gloo", "cuda:0");
}

TEST(InitProcessGroupTest, NcclRunsOnOneDeviceARank) {
  SKIP_WITHOUT_CUDA();
  run_on_ranks(cuda_device_count(), [](const Rank& rank) {
    const auto group = init_process_group(
        {.backend = "nccl", .store = rank.store(), .rank = rank.rank, .world_size = rank.size, .timeout = 60s});
    const auto tensor = torch::ones({3}, group.device());
    group.all_reduce(tensor).wait();
    EXPECT_TENSORS_EQUAL(tensor.cpu(), filled({3}, static_cast<double>(rank.size)));
    group.barrier();
    destroy_process_group();
  });
}

TEST(InitProcessGroupTest, NcclRefusesMoreRanksThanDevices) {
  SKIP_WITHOUT_CUDA();
  const auto join = [](const Rank& rank) {
    init_process_group({.backend = "nccl", .store = rank.store(), .rank = 0, .world_size = 1, .timeout = 1s});
  };
  run_on_ranks(1, [&](const Rank& rank) { EXPECT_ERROR(join(rank), "LOCAL_RANK is 999", "CUDA devices"); },
               {.environment = {{"LOCAL_RANK", "999"}}});
}

TEST(TogetherTest, ReturnsWhenAllAreDoneAndThrowsOnAllWhatOneThrows) {
  run_on_ranks(2, [](const Rank& rank) {
    const auto group = rank.join();
    const auto own = "rank " + std::to_string(rank.rank) + " of 2: ";
    const auto file = rank / "done";
    together(group, [&] {
      if (rank.rank == 1) {
        std::this_thread::sleep_for(100ms);
        testing::write_file(file, "done");
      }
    });
    EXPECT_EQ(testing::read_file(file), "done");
    EXPECT_ERROR(together(group, [&] { TORCH_CHECK(rank.rank == 0, "rank 1 has no luck"); }),
                 own + "rank 1 has no luck");
    const auto foreign = [&](const std::string& text) {
      together(group, [&] { rank.rank == 0 ? throw std::runtime_error(text) : void(); });
    };
    EXPECT_ERROR(foreign("some text"), own + "some text");
    EXPECT_ERROR(foreign(""), own, "without a text");
    group.barrier();
    destroy_process_group();
  });
}

TEST(StoreTest, SharesKeysAndCounters) {
  run_on_ranks(2, [](const Rank& rank) {
    const auto whole = rank.store();
    const auto store = whole.with_prefix("mine");
    if (rank.rank == 0) {
      store.set("key", "value");
    }
    EXPECT_EQ(store.get("key"), "value");
    EXPECT_TRUE(store.contains("key"));
    EXPECT_FALSE(whole.contains("key"));
    EXPECT_LE(store.add("count", 1), 2);
    EXPECT_ERROR(store.wait({"never"}, 100ms), "waited for");
    EXPECT_ERROR(store.port(), "TCP");
  });
}

}  // namespace
}  // namespace transformers
