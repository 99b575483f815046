#include <torch/torch.h>
#include <transformers/utils/pipeline/schedules.h>

#include "support/tensor_assertions.h"
#include "support/tiny_models.h"
#include "utils/distributed/rank_death.h"

// A stage that dies, does not come or disagrees: the others end with an error that names them and the reason, in time.

namespace transformers {
namespace {

using namespace std::chrono_literals;
using testing::DeathCase;
using testing::die;
using testing::expect_errors_when_a_rank_dies;
using testing::Rank;
using testing::run_on_ranks;
using testing::tiny_ids;
using testing::tiny_llama;
using testing::tiny_model;

LlamaConfig four_layers() {
  auto config = tiny_llama();
  config.num_hidden_layers = 4;
  return config;
}

void step(const PipelineStage& stage, int64_t rows, int64_t n_microbatches) {
  const auto ids = tiny_ids(rows, 5);
  Schedule1F1B(stage, n_microbatches).step({.input_ids = ids}, {.labels = ids});
}

using Operation = std::function<void(const PipelineStage&, const Rank&)>;

DeathCase dying(const std::string& name, const std::string& says, const Operation& operation) {
  return {.name = name, .says = says, .prepare = [operation](const Rank& rank, const ProcessGroup& group) {
            const PipelineStage stage(tiny_model(four_layers()), group);
            step(stage, 4, 4);
            return [operation, stage, rank] { operation(stage, rank); };
          }};
}

/// In the `call`-th call of a layer of the stage's.
DeathCase dying_inside(const std::string& name, int64_t victim, int call, bool in_backward) {
  return {.name = name,
          .says = "rank",
          .prepare =
              [=](const Rank& rank, const ProcessGroup& group) {
                const PipelineStage stage(tiny_model(four_layers()), group);
                if (rank.rank == victim) {
                  const auto layers = stage.model().structure().layers;
                  auto layer = layers[static_cast<size_t>(victim * 4 / rank.size)].mlp_output;
                  layer->register_forward_hook([=, calls = 0](const at::Tensor&, const at::Tensor& output) mutable {
                    if (++calls == call && in_backward) {
                      output.register_hook([](const at::Tensor&) { die(); });
                    } else if (calls == call) {
                      die();
                    }
                    return at::Tensor();
                  });
                }
                return [stage] { step(stage, 4, 4); };
              },
          .dies_inside = true};
}

TEST(PipelineFailureTest, AStageThatDiesEndsWhatTheOtherDoes) {
  expect_errors_when_a_rank_dies(
      2, 1,
      {dying("step", "all_gather_into_tensor", [](const auto& stage, const auto&) { step(stage, 4, 4); }),
       dying("gather", "recv from rank 1", [](const auto& stage, const auto&) { gather_state_dict(stage); }),
       dying("save", "recv from rank 1",
             [](const auto& stage, const auto& rank) { save_pretrained(stage, rank / "saved"); }),
       dying("clip", "all_reduce", [](const auto& stage, const auto&) { clip_grad_norm_(stage, 1); }),
       {.name = "construction",
        .says = "all_gather_into_tensor",
        .prepare = [](const Rank&, const ProcessGroup& group) {
          return [group] { PipelineStage(tiny_model(four_layers()), group); };
        }}});
}

TEST(PipelineFailureTest, AStageThatDiesEndsTheStepsOfAllOthers) {
  expect_errors_when_a_rank_dies(
      4, 2,
      {dying("between steps", "all_gather_into_tensor", [](const auto& stage, const auto&) { step(stage, 4, 4); }),
       dying_inside("in a forward", 2, 2, /*in_backward=*/false),
       dying_inside("in a backward", 2, 2, /*in_backward=*/true)});
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
