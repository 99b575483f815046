#include <torch/torch.h>
#include <transformers/auto/modeling_auto.h>
#include <transformers/llama/modeling_llama.h>
#include <transformers/utils/fully_sharded/fully_sharded.h>
#include <transformers/utils/generation/generate.h>
#include <transformers/utils/training/optimizer.h>
#include <transformers/utils/training/parameter_groups.h>

#include "support/tensor_assertions.h"
#include "support/tiny_models.h"
#include "utils/distributed/data_parallel_models.h"
#include "utils/distributed/rank_launcher.h"
#include "utils/fully_sharded/own_rows.h"

namespace transformers {
namespace {

using namespace std::chrono_literals;
using testing::loss_of;
using testing::own_rows;
using testing::Rank;
using testing::run_on_ranks;
using testing::share_of;
using testing::tiny_gptj;
using testing::tiny_ids;
using testing::tiny_llama;
using testing::tiny_model;

constexpr testing::Tolerance kSameMath = {1e-6, 1e-6};
constexpr int kDied = 9;

struct Training {
  FullyShardedOptions options{};
  bool checkpointing = false;
  int64_t micro_batches = 1;
  bool frozen_embeddings = false;
};

std::shared_ptr<CausalLM> model_for(const PretrainedConfig& config, const Training& training) {
  auto model = tiny_model(config);
  model->train();
  model->get_input_embeddings()->weight.requires_grad_(!training.frozen_embeddings);
  if (training.checkpointing) {
    model->gradient_checkpointing_enable();
  }
  return model;
}

AdamW adamw_for(const torch::nn::Module& model) {
  const auto options = torch::optim::AdamWOptions(1e-3).weight_decay(0.1);
  return AdamW(decay_groups(model, options), options);
}

/// The mean loss over a rank's micro-batches, whose gradients it leaves.
double accumulated_loss(FullyShardedDataParallel<CausalLM>& model, const at::Tensor& share, int64_t micro_batches) {
  const auto backward = [&](const at::Tensor& ids) {
    const auto loss = model.run([&](auto& causal_lm) { return loss_of(causal_lm, ids); }) / micro_batches;
    loss.backward();
    return loss.template item<double>();
  };
  const auto parts = share.chunk(micro_batches);
  double loss = 0;
  {
    const auto local = model.no_sync();
    for (size_t i = 0; i + 1 < parts.size(); ++i) {
      loss += backward(parts[i]);
    }
  }
  return loss + backward(parts.back());
}

void expect_equal_rows(const FullyShardedModule& model, const torch::nn::Module& alone, bool gradients) {
  const auto whole = alone.named_parameters();
  for (const auto& own : model.sharded_parameters()) {
    const auto& parameter = whole[own.name];
    const auto expected = gradients ? parameter.grad() : parameter.detach();
    const auto actual = gradients ? own.parameter.grad() : own.parameter.detach();
    ASSERT_EQ(actual.defined(), expected.defined()) << own.name;
    if (expected.defined()) {
      EXPECT_TENSORS_CLOSE(actual, own_rows(expected, own), kSameMath) << own.name << (gradients ? " gradient" : "");
    }
  }
}

/// Three AdamW steps of a sharded model on shares against those of one model on the whole batch.
void expect_equal_to_one_process(const PretrainedConfig& config, const Rank& rank, const Training& training) {
  const auto batch = tiny_ids(8, 12);
  const auto alone = model_for(config, training), module = model_for(config, training);
  FullyShardedDataParallel model(module, training.options);
  auto alone_steps = adamw_for(*alone), steps = adamw_for(*module);
  for (int step = 0; step < 3; ++step) {
    alone_steps.zero_grad();
    steps.zero_grad();
    const auto expected = loss_of(*alone, batch);
    expected.backward();
    const auto own_loss = accumulated_loss(model, share_of(batch, rank), training.micro_batches);
    const auto loss = torch::full({1}, own_loss);
    model.group().all_reduce(loss.div_(rank.size)).wait();
    EXPECT_TENSORS_CLOSE(loss[0], expected.detach(), kSameMath);
    expect_equal_rows(model, *alone, /*gradients=*/true);
    EXPECT_NEAR(model.clip_grad_norm_(0.5).item<double>(),
                clip_grad_norm_(all_parameters(alone_steps), 0.5).item<double>(), 1e-6);
    alone_steps.step();
    steps.step();
    expect_equal_rows(model, *alone, /*gradients=*/false);
  }
}

void expect_equal_on_ranks(int64_t ranks, const PretrainedConfig& config, const Training& training = {}) {
  run_on_ranks(ranks, [&](const Rank& rank) {
    rank.join();
    expect_equal_to_one_process(config, rank, training);
    destroy_process_group();
  });
}

TEST(FullyShardedDataParallelTest, LlamaOnTwoRanksEqualsOneProcessOnTheWholeBatch) {
  expect_equal_on_ranks(2, tiny_llama());
}

TEST(FullyShardedDataParallelTest, LlamaOnFourRanksEqualsOneProcessOnTheWholeBatch) {
  expect_equal_on_ranks(4, tiny_llama());
}

TEST(FullyShardedDataParallelTest, GptjOnTwoRanksEqualsOneProcessOnTheWholeBatch) {
  expect_equal_on_ranks(2, tiny_gptj());
}

TEST(FullyShardedDataParallelTest, GptjOnFourRanksEqualsOneProcessOnTheWholeBatch) {
  expect_equal_on_ranks(4, tiny_gptj());
}

TEST(FullyShardedDataParallelTest, OneRankAloneEqualsOneProcess) { expect_equal_on_ranks(1, tiny_llama()); }

TEST(FullyShardedDataParallelTest, CheckpointedLayersGiveTheSame) {
  expect_equal_on_ranks(2, tiny_llama(), {.checkpointing = true});
}

TEST(FullyShardedDataParallelTest, TiedEmbeddingsGiveTheSame) {
  auto config = tiny_gptj();
  config.tie_word_embeddings = true;
  expect_equal_on_ranks(2, config, {.checkpointing = true});
}

TEST(FullyShardedDataParallelTest, AccumulationOverNoSyncGivesTheSame) {
  expect_equal_on_ranks(2, tiny_llama(), {.micro_batches = 2});
}

TEST(FullyShardedDataParallelTest, FrozenParametersGiveTheSame) {
  expect_equal_on_ranks(2, tiny_llama(), {.frozen_embeddings = true});
}

TEST(FullyShardedDataParallelTest, KeepingWholeParametersAndNoPrefetchGiveTheSame) {
  expect_equal_on_ranks(
      2, tiny_llama(),
      {.options = {.reshard_after_forward = false, .forward_prefetch = false, .backward_prefetch = false}});
}

}  // namespace
}  // namespace transformers
