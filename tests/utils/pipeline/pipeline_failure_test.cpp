#include <torch/torch.h>
#include <transformers/utils/pipeline/schedules.h>

#include "support/tensor_assertions.h"
#include "support/tiny_models.h"
#include "utils/distributed/rank_launcher.h"

// A stage that dies, does not come or disagrees: the others end with an error that names them and the reason, in time.

namespace transformers {
namespace {

using namespace std::chrono_literals;
using testing::Rank;
using testing::run_on_ranks;
using testing::tiny_ids;
using testing::tiny_llama;
using testing::tiny_model;

constexpr int kDied = 9;

LlamaConfig four_layers() {
  auto config = tiny_llama();
  config.num_hidden_layers = 4;
  return config;
}

void step(const PipelineStage& stage, int64_t rows, int64_t n_microbatches) {
  const auto ids = tiny_ids(rows, 5);
  Schedule1F1B(stage, n_microbatches).step({.input_ids = ids}, {.labels = ids});
}

TEST(PipelineFailureTest, AStageThatDiedEndsTheStepsOfAllOthers) {
  run_on_ranks(4,
               [](const Rank& rank) {
                 const auto model = tiny_model(four_layers());
                 const PipelineStage stage(model, rank.join());
                 step(stage, 4, 4);
                 if (rank.rank == 2) {
                   std::_Exit(kDied);
                 }
                 EXPECT_ERROR(step(stage, 4, 4), "rank " + std::to_string(rank.rank) + " of 4");
               },
               {.expected_status = {{2, kDied}}});
}

TEST(PipelineFailureTest, AStageThatDiesInsideAStepEndsThoseOfItsNeighbours) {
  run_on_ranks(2,
               [](const Rank& rank) {
                 const auto model = tiny_model(four_layers());
                 const PipelineStage stage(model, rank.join());
                 if (rank.rank == 1) {
                   model->get_output_embeddings()->register_forward_pre_hook(
                       [](const at::Tensor&) -> at::Tensor { std::_Exit(kDied); });
                 }
                 EXPECT_ERROR(step(stage, 4, 4), "rank 0 of 2", "rank 1");
               },
               {.expected_status = {{1, kDied}}});
}

TEST(PipelineFailureTest, AStageThatDoesNotComeEndsTheStepAfterTheTimeout) {
  run_on_ranks(2, [](const Rank& rank) {
    rank.join();
    const auto model = tiny_model(four_layers());
    const auto group = *new_group({0, 1}, 3s);
    const PipelineStage stage(model, group);
    if (rank.rank == 0) {
      EXPECT_ERROR(step(stage, 4, 4), "rank 0 of 2");
      rank.store().set("done", "1");
    } else {
      rank.store().get("done");
    }
    destroy_process_group();
  });
}

TEST(PipelineFailureTest, RanksThatDisagreeOnTheBatchAllHearSo) {
  run_on_ranks(2, [](const Rank& rank) {
    const auto model = tiny_model(four_layers());
    const PipelineStage stage(model, rank.join());
    EXPECT_ERROR(step(stage, rank.rank == 0 ? 4 : 8, 4), "ranks disagree", "rank 0 runs input_ids [4, 5]",
                 "rank 1 runs input_ids [8, 5]");
    EXPECT_ERROR(step(stage, 4, rank.rank == 0 ? 2 : 4), "in 2 micro-batches", "in 4 micro-batches");
    EXPECT_ERROR(step(stage, rank.rank == 0 ? 4 : 6, 4), "rank 1 of 2", "6 rows", "4 micro-batches");
    step(stage, 4, 4);
    destroy_process_group();
  });
}

TEST(PipelineFailureTest, RefusesModelsThatDifferOrHaveTooFewBlocks) {
  run_on_ranks(2, [](const Rank& rank) {
    const auto group = rank.join();
    auto config = four_layers();
    config.vocab_size = 40 + rank.rank;
    EXPECT_ERROR(PipelineStage(tiny_model(config), group), "rank 0 has", "40 tokens", "rank 1 has", "41 tokens");
    auto shallow = tiny_llama();
    shallow.num_hidden_layers = 1;
    EXPECT_ERROR(PipelineStage(tiny_model(shallow), group), "1 blocks cannot be split over 2 stages");
    destroy_process_group();
  });
}

TEST(PipelineFailureTest, RefusesCallsThatNoPipelineTakes) {
  run_on_ranks(1, [](const Rank& rank) {
    const auto model = tiny_model(four_layers());
    const PipelineStage stage(model, rank.join());
    EXPECT_ERROR(Schedule1F1B(stage, 0), "at least one micro-batch");
    Schedule1F1B schedule(stage, 2);
    const auto ids = tiny_ids(2, 5);
    EXPECT_ERROR(schedule.step({.input_ids = ids}, {}), "takes labels");
    EXPECT_ERROR(schedule.step({.inputs_embeds = torch::zeros({2, 5, 24})}, {.labels = ids}), "takes input_ids");
    EXPECT_ERROR(schedule.step({.input_ids = ids, .output_attentions = true}, {.labels = ids}), "attentions");
    EXPECT_ERROR(schedule.step({.input_ids = ids}, {.labels = tiny_ids(2, 4)}), "labels must have shape [2, 5]");
    EXPECT_ERROR(schedule.step({.input_ids = ids}, {.labels = ids, .logits_to_keep = 1}), "all positions");
    destroy_process_group();
  });
}

}  // namespace
}  // namespace transformers
