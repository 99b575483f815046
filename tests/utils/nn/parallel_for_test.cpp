#include "utils/nn/internal/parallel_for.h"

#include <ATen/Parallel.h>
#include <c10/util/ScopeExit.h>
#include <gtest/gtest.h>

#include <mutex>
#include <set>
#include <thread>

#include "support/tensor_assertions.h"

namespace transformers {
namespace {

/// Threads of LibTorch's pool for one test.
auto with_threads(int count) {
  const auto before = at::get_num_threads();
  at::set_num_threads(count);
  return c10::make_scope_exit([before] { at::set_num_threads(before); });
}

TEST(ParallelForTest, PartsRunOnThreadsOfTheirOwn) {
  const auto restore = with_threads(2);
  std::mutex mutex;
  std::set<std::thread::id> threads;
  std::set<std::pair<int64_t, int64_t>> parts;
  parallel_for(0, 10, 1, [&](int64_t begin, int64_t end) {
    const std::lock_guard lock(mutex);
    threads.insert(std::this_thread::get_id());
    parts.emplace(begin, end);
  });
  EXPECT_EQ(threads.size(), 2);
  EXPECT_EQ(parts, (std::set<std::pair<int64_t, int64_t>>{{0, 5}, {5, 10}}));
}

TEST(ParallelForTest, LessThanAGrainStaysInOnePart) {
  const auto restore = with_threads(2);
  int calls = 0;
  parallel_for(3, 10, 7, [&](int64_t begin, int64_t end) {
    ++calls;
    EXPECT_EQ(begin, 3);
    EXPECT_EQ(end, 10);
  });
  EXPECT_EQ(calls, 1);
}

TEST(ParallelForTest, ThrowsTheErrorOfAPart) {
  const auto restore = with_threads(2);
  const auto fail_late = [](int64_t begin, int64_t /*end*/) { TORCH_CHECK(begin == 0, "part ", begin); };
  EXPECT_ERROR(parallel_for(0, 10, 1, fail_late), "part 5");
}

}  // namespace
}  // namespace transformers
