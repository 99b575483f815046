#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <transformers/llama/modeling_llama.h>
#include <transformers/llama/rotary_tables.h>
#include <transformers/utils/generation/generate.h>

#include <atomic>
#include <thread>
#include <vector>

#include "support/tensor_assertions.h"
#include "support/tiny_models.h"

namespace transformers::testing {
namespace {

// A server calls one model from many threads. The right result of a call is what the call gives alone.

constexpr int kThreads = 8, kRounds = 20;

/// Runs `call(i)` of every thread i many times at once; how many results differed from the first, made alone.
int wrong_results(const std::function<at::Tensor(int)>& call) {
  std::vector<at::Tensor> alone;
  for (int i = 0; i < kThreads; ++i) {
    alone.push_back(call(i));
  }
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      for (int round = 0; round < kRounds; ++round) {
        wrong += at::equal(call(i), alone[static_cast<size_t>(i)]) ? 0 : 1;
      }
    });
  }
  for (auto& thread : threads) {
    thread.join();
  }
  return wrong;
}

LlamaConfig stretched(RopeType type) {
  auto config = tiny_llama();
  config.max_position_embeddings = type == RopeType::kLongrope ? 64 : 16;
  auto& rope = config.rope_parameters;
  rope.rope_type = type;
  if (type == RopeType::kDynamic) {
    rope.factor = 4.0;
  } else if (type == RopeType::kLongrope) {
    rope.original_max_position_embeddings = 16;
    const auto pairs = static_cast<size_t>(config.head_size() / 2);
    rope.short_factor = std::vector<double>(pairs, 1.0);
    rope.long_factor = std::vector<double>(pairs, 4.0);
  }
  return config;
}

/// For each thread, of lengths on both sides of the one at which the frequencies change.
std::vector<at::Tensor> ids_of_threads() {
  std::vector<at::Tensor> ids;
  for (int thread = 0; thread < kThreads; ++thread) {
    ids.push_back(tiny_ids(1, 4 + 5 * thread));
  }
  return ids;
}

class ThreadsTest : public ::testing::TestWithParam<RopeType> {
 protected:
  std::shared_ptr<CausalLM> model = tiny_model(stretched(GetParam()));
  std::vector<at::Tensor> ids = ids_of_threads();
};

TEST_P(ThreadsTest, ForwardsOfOneModelDoNotMeet) {
  EXPECT_EQ(wrong_results([&](int thread) {
              const at::NoGradGuard no_grad;
              return model->forward({.input_ids = ids[static_cast<size_t>(thread)], .use_cache = false}).logits;
            }),
            0);
}

TEST_P(ThreadsTest, GenerationsOfOneModelDoNotMeet) {
  EXPECT_EQ(wrong_results([&](int thread) {
              return generate(*model, {.input_ids = ids[static_cast<size_t>(thread)]},
                              {.max_new_tokens = 6, .do_sample = false})
                  .sequences;
            }),
            0);
}

TEST_P(ThreadsTest, AShortCallAfterALongOneIsThatOfAFreshModel) {
  const at::NoGradGuard no_grad;
  const auto call = [&](CausalLM& of, int64_t length) {
    return of.forward({.input_ids = tiny_ids(1, length), .use_cache = false}).logits;
  };
  const auto fresh = tiny_model(stretched(GetParam()));
  const auto expected = call(*fresh, 20);
  call(*model, 40);
  EXPECT_TENSORS_EQUAL(call(*model, 20), expected);
}

INSTANTIATE_TEST_SUITE_P(RopeTypes, ThreadsTest,
                         ::testing::Values(RopeType::kDefault, RopeType::kDynamic, RopeType::kLongrope));

TEST(ThreadsTest, ATableOfPositionsGrowsUnderManyThreads) {
  LlamaRotaryTable table(8, 4);
  std::vector<at::Tensor> expected;
  for (int i = 0; i < kThreads; ++i) {
    expected.push_back(LlamaRotaryTable(8, 4)->forward(at::empty({0}), 2 + 40 * i).cos);
  }
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      wrong += at::equal(table->forward(at::empty({0}), 2 + 40 * i).cos, expected[static_cast<size_t>(i)]) ? 0 : 1;
    });
  }
  for (auto& thread : threads) {
    thread.join();
  }
  EXPECT_EQ(wrong, 0);
}

}  // namespace
}  // namespace transformers::testing
