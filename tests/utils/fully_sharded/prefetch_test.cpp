#include <torch/torch.h>

#include <chrono>
#include <thread>

#include "support/tensor_assertions.h"
#include "utils/distributed/process_counters.h"
#include "utils/distributed/rank_launcher.h"
#include "utils/fully_sharded/two_layers.h"

namespace transformers {
namespace {

using namespace std::chrono_literals;
using testing::each_layer;
using testing::Rank;
using testing::run_on_ranks;
using testing::two_layers;

struct Prefetched {
  bool in_forward = false, in_backward = false;
};

/// Runs two wide layers, each a unit. In forward the first waits, in backward the second: whether the rows of the other
/// leave meanwhile.
Prefetched prefetched(bool forward_prefetch, bool backward_prefetch) {
  constexpr int64_t kWidth = 300;
  const auto module = two_layers(3, kWidth);
  auto options = each_layer();
  options.forward_prefetch = forward_prefetch;
  options.backward_prefetch = backward_prefetch;
  FullyShardedDataParallel model(module, options);
  const int64_t rows_bytes = kWidth * kWidth / 2 * 4;
  int64_t before = 0;
  const auto both_leave = [&](bool expected) {
    const auto deadline = std::chrono::steady_clock::now() + (expected ? 5s : 500ms);
    while (testing::sent_bytes() - before < 2 * rows_bytes && std::chrono::steady_clock::now() < deadline) {
      std::this_thread::sleep_for(1ms);
    }
    return testing::sent_bytes() - before >= 2 * rows_bytes;
  };
  Prefetched found;
  module->first->register_forward_pre_hook([&](const at::Tensor&) {
    found.in_forward = both_leave(forward_prefetch);
    return at::Tensor();
  });
  module->second->register_forward_hook([&](const at::Tensor&, const at::Tensor& output) {
    output.register_hook([&](const at::Tensor&) { found.in_backward = both_leave(backward_prefetch); });
    return at::Tensor();
  });
  before = testing::sent_bytes();
  const auto output = model(torch::ones({1, kWidth}));
  before = testing::sent_bytes();
  output.sum().backward();
  return found;
}

TEST(FullyShardedDataParallelTest, TheNextUnitsRowsTravelWhileOneComputes) {
  run_on_ranks(2, [](const Rank& rank) {
    rank.join();
    for (const bool forward : {true, false}) {
      for (const bool backward : {true, false}) {
        const auto found = prefetched(forward, backward);
        EXPECT_EQ(found.in_forward, forward);
        EXPECT_EQ(found.in_backward, backward);
      }
    }
    destroy_process_group();
  });
}

}  // namespace
}  // namespace transformers
