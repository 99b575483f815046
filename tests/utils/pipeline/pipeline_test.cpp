#include <torch/torch.h>
#include <transformers/utils/optim/optimizer.h>
#include <transformers/utils/pipeline/schedules.h>

#include "support/tensor_assertions.h"
#include "support/tiny_models.h"
#include "utils/distributed/rank_launcher.h"

namespace transformers {
namespace {

using testing::Rank;
using testing::run_on_ranks;
using testing::tiny_gptj;
using testing::tiny_ids;
using testing::tiny_llama;
using testing::tiny_model;

constexpr testing::Tolerance kClose{.relative = 1e-6, .absolute = 1e-6};

LlamaConfig deep_llama() {
  auto config = tiny_llama();
  config.num_hidden_layers = 5;
  return config;
}

LlamaConfig tied_llama() {
  auto config = deep_llama();
  config.tie_word_embeddings = true;
  return config;
}

GPTJConfig deep_gptj() {
  auto config = tiny_gptj();
  config.n_layer = 4;
  return config;
}

/// Eight rows, padded left, of which each micro-batch counts another number of labels.
struct Text {
  Text() {
    ids = tiny_ids(8, 7);
    mask = torch::ones({8, 7}, torch::kLong);
    labels = ids.clone();
    for (int64_t row = 0; row < 8; ++row) {
      mask[row].narrow(0, 0, row % 3).zero_();
      labels[row].narrow(0, 0, row % 6).fill_(-100);
    }
  }
  ModelInputs inputs() const { return {.input_ids = ids, .attention_mask = mask, .use_cache = false}; }
  at::Tensor ids, mask, labels;
};

struct Variant {
  bool gpipe = false;
  int64_t n_microbatches = 4;
  int64_t loss_chunk_rows = 0;
  bool gradient_checkpointing = false;
};

std::unique_ptr<PipelineSchedule> schedule_of(const PipelineStage& stage, const Variant& variant) {
  if (variant.gpipe) {
    return std::make_unique<ScheduleGPipe>(stage, variant.n_microbatches);
  }
  return std::make_unique<Schedule1F1B>(stage, variant.n_microbatches);
}

/// Tied ones once, as an optimizer takes them.
std::vector<at::Tensor> parameters_of(const CausalLM& model) {
  std::vector<at::Tensor> parameters;
  for (const auto& parameter : model.parameters()) {
    const auto is_same = [&](const at::Tensor& other) { return other.is_same(parameter); };
    if (std::none_of(parameters.begin(), parameters.end(), is_same)) {
      parameters.push_back(parameter);
    }
  }
  return parameters;
}

/// Of what the stage holds.
void expect_equal(const PipelineStage& stage, const CausalLM& alone, bool of_gradients) {
  const auto expected = alone.named_parameters();
  for (const auto& parameter : stage.model().named_parameters()) {
    if (!parameter->is_meta()) {
      const auto& whole = expected[parameter.key()];
      EXPECT_TENSORS_CLOSE(of_gradients ? parameter->grad() : parameter->detach(),
                           of_gradients ? whole.grad() : whole.detach(), kClose)
          << parameter.key();
    }
  }
}

void expect_equal_training(const PretrainedConfig& config, const Rank& rank, const Variant& variant) {
  const auto alone = tiny_model(config), model = tiny_model(config);
  const PipelineStage stage(model, rank.join());
  const auto schedule = schedule_of(stage, variant);
  alone->train();
  model->train();
  if (variant.gradient_checkpointing) {
    model->gradient_checkpointing_enable();
  }
  const Text text;
  const CausalLMOptions options{.labels = text.labels, .loss_chunk_rows = variant.loss_chunk_rows};
  AdamW steps(stage.parameters(), torch::optim::AdamWOptions(1e-3)),
      alone_steps(parameters_of(*alone), torch::optim::AdamWOptions(1e-3));
  for (int step = 0; step < 3; ++step) {
    steps.zero_grad();
    alone_steps.zero_grad();
    const auto loss = schedule->step(text.inputs(), options);
    const auto expected = alone->forward(text.inputs(), options).loss;
    expected.backward();
    EXPECT_TENSORS_CLOSE(loss, expected.detach(), kClose);
    expect_equal(stage, *alone, /*of_gradients=*/true);
    steps.step();
    alone_steps.step();
  }
  expect_equal(stage, *alone, /*of_gradients=*/false);
  EXPECT_TENSORS_CLOSE(schedule->eval(text.inputs(), options), alone->forward(text.inputs(), options).loss.detach(),
                       kClose);
  destroy_process_group();
}

void expect_equal_on_ranks(int64_t ranks, const PretrainedConfig& config, const Variant& variant = {}) {
  run_on_ranks(ranks, [&](const Rank& rank) { expect_equal_training(config, rank, variant); });
}

TEST(PipelineTest, LlamaOnOneRankEqualsOneProcess) { expect_equal_on_ranks(1, tied_llama()); }

TEST(PipelineTest, LlamaOnTwoRanksEqualsOneProcess) { expect_equal_on_ranks(2, deep_llama()); }

TEST(PipelineTest, LlamaOnFourRanksEqualsOneProcess) { expect_equal_on_ranks(4, deep_llama()); }

TEST(PipelineTest, LlamaWithTiedEmbeddingsEqualsOneProcess) { expect_equal_on_ranks(4, tied_llama()); }

TEST(PipelineTest, GPTJOnTwoRanksEqualsOneProcess) { expect_equal_on_ranks(2, deep_gptj(), {.n_microbatches = 8}); }

TEST(PipelineTest, GPTJOnFourRanksEqualsOneProcess) { expect_equal_on_ranks(4, deep_gptj(), {.n_microbatches = 2}); }

TEST(PipelineTest, AllForwardsFirstEqualsOneProcess) { expect_equal_on_ranks(2, tied_llama(), {.gpipe = true}); }

TEST(PipelineTest, CheckpointedBlocksAndALossInChunksEqualOneProcess) {
  expect_equal_on_ranks(2, deep_llama(), {.loss_chunk_rows = 5, .gradient_checkpointing = true});
}

TEST(PipelineTest, GradientsOfSeveralBatchesAddUpThoughEmbeddingsAreTied) {
  run_on_ranks(2, [](const Rank& rank) {
    const auto alone = tiny_model(tied_llama()), model = tiny_model(tied_llama());
    const PipelineStage stage(model, rank.join());
    Schedule1F1B schedule(stage, 2);
    const Text text;
    for (int batch = 0; batch < 2; ++batch) {
      const CausalLMOptions options{.labels = text.labels, .num_items_in_batch = 50};
      schedule.step(text.inputs(), options);
      alone->forward(text.inputs(), options).loss.backward();
    }
    expect_equal(stage, *alone, /*of_gradients=*/true);
    destroy_process_group();
  });
}

TEST(PipelineTest, ClipsByTheNormOfOneProcess) {
  run_on_ranks(4, [](const Rank& rank) {
    const auto alone = tiny_model(tied_llama()), model = tiny_model(tied_llama());
    const PipelineStage stage(model, rank.join());
    const Text text;
    Schedule1F1B(stage, 4).step(text.inputs(), {.labels = text.labels});
    alone->forward(text.inputs(), {.labels = text.labels}).loss.backward();
    auto parameters = parameters_of(*alone);
    const auto expected = torch::nn::utils::clip_grad_norm_(parameters, 0.5);
    ASSERT_GT(expected, 0.5);
    EXPECT_NEAR(clip_grad_norm_(stage, -1).item<double>(), expected, 1e-5 * expected);  // measures
    EXPECT_NEAR(clip_grad_norm_(stage, 0.5).item<double>(), expected, 1e-5 * expected);
    expect_equal(stage, *alone, /*of_gradients=*/true);
    destroy_process_group();
  });
}

TEST(PipelineTest, AStageHoldsNoMoreMicrobatchesThanThereAreStagesFromItOn) {
  run_on_ranks(4, [](const Rank& rank) {
    const auto model = tiny_model(deep_llama());
    const PipelineStage stage(model, rank.join());
    Schedule1F1B one_f_one_b(stage, 8);
    ScheduleGPipe gpipe(stage, 8);
    const Text text;
    one_f_one_b.step(text.inputs(), {.labels = text.labels});
    gpipe.step(text.inputs(), {.labels = text.labels});
    EXPECT_EQ(one_f_one_b.most_live_microbatches(), 4 - rank.rank);
    EXPECT_EQ(gpipe.most_live_microbatches(), 8);
    gpipe.eval(text.inputs(), {.labels = text.labels});
    EXPECT_EQ(gpipe.most_live_microbatches(), 0);
    destroy_process_group();
  });
}

using Actions = std::vector<PipelineAction>;
using Kind = PipelineAction::Kind;
PipelineAction f(int64_t microbatch) { return {Kind::kForward, microbatch}; }
PipelineAction b(int64_t microbatch) { return {Kind::kBackward, microbatch}; }

TEST(PipelineActionsTest, GPipeRunsAllForwardsFirst) {
  EXPECT_EQ(gpipe_actions(3), (Actions{f(0), f(1), f(2), b(0), b(1), b(2)}));
}

TEST(PipelineActionsTest, OneForwardOneBackwardStartsAsManyAsThereAreStagesLeft) {
  EXPECT_EQ(one_f_one_b_actions(0, 3, 4), (Actions{f(0), f(1), f(2), b(0), f(3), b(1), b(2), b(3)}));
  EXPECT_EQ(one_f_one_b_actions(1, 3, 4), (Actions{f(0), f(1), b(0), f(2), b(1), f(3), b(2), b(3)}));
  EXPECT_EQ(one_f_one_b_actions(2, 3, 4), (Actions{f(0), b(0), f(1), b(1), f(2), b(2), f(3), b(3)}));
  EXPECT_EQ(one_f_one_b_actions(0, 3, 1), (Actions{f(0), b(0)}));
}

TEST(SplitBlocksTest, GivesLargerSharesFirst) {
  const auto ranges = split_blocks(7, 3);
  ASSERT_EQ(ranges.size(), 3U);
  EXPECT_EQ(ranges[0].end, 3);
  EXPECT_EQ(ranges[1].begin, 3);
  EXPECT_EQ(ranges[1].end, 5);
  EXPECT_EQ(ranges[2].end, 7);
  EXPECT_ERROR(split_blocks(2, 3), "2 blocks cannot be split over 3 stages");
}

}  // namespace
}  // namespace transformers
