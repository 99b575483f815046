#include <ATen/ATen.h>
#include <transformers/utils/training/parameter_groups.h>
#include <transformers/utils/training/training_tasks.h>

#include "support/tensor_assertions.h"
#include "support/tiny_models.h"
#include "utils/distributed/rank_launcher.h"

namespace transformers::testing {
namespace {

using torch::optim::AdamWOptions;

/// Samples of different lengths, so that ranks and micro-batches weigh differently.
class UnevenSamples : public Dataset {
 public:
  int64_t size() const override { return 12; }
  Batch get(int64_t index) const override {
    const auto ids = tiny_ids(12, 9)[index].slice(0, 0, 3 + index % 6);
    return {{"input_ids", ids}, {"labels", ids}};
  }
};

struct Result {
  std::vector<double> losses, norms;
  std::shared_ptr<CausalLM> model;
};

Result train(const PretrainedConfig& config, const std::optional<ProcessGroup>& group, int64_t batch_size) {
  Result result{.losses = {}, .norms = {}, .model = tiny_model(config)};
  // With a larger eps than usual a gradient that is all rounding stays as small: ranks add up in another order.
  AdamW optimizer(decay_groups(*result.model, AdamWOptions(1e-2).eps(1e-3)));
  const auto scheduler = get_scheduler(SchedulerType::kConstant, optimizer);
  BatchLoader data(
      std::make_shared<UnevenSamples>(), padding_collator(0),
      {.batch_size = batch_size, .rank = group ? group->rank() : 0, .world_size = group ? group->size() : 1});
  const auto record = [&result](const TrainingLog& log) {
    result.losses.push_back(log.loss);
    result.norms.push_back(log.grad_norm);
    return true;
  };
  Trainer trainer(*result.model, causal_lm_task(*result.model), optimizer, *scheduler,
                  {.max_steps = 5, .gradient_accumulation_steps = 2, .process_group = group}, {.on_step = record});
  trainer.train(data);
  return result;
}

void expect_the_steps_of_one_process(const PretrainedConfig& config) {
  run_on_ranks(2, [&config](const Rank& rank) {
    const auto group = rank.join();
    const auto found = train(config, group, 2), expected = train(config, std::nullopt, 4);
    const auto in_double = [](const std::vector<double>& values) { return at::tensor(values, at::kDouble); };
    EXPECT_TENSORS_CLOSE(in_double(found.losses), in_double(expected.losses), {.relative = 1e-5, .absolute = 0});
    EXPECT_TENSORS_CLOSE(in_double(found.norms), in_double(expected.norms), {.relative = 1e-5, .absolute = 0});
    const auto weights = state_dict(*expected.model);
    for (const auto& item : state_dict(*found.model)) {
      SCOPED_TRACE(item.key());
      EXPECT_TRUE(tensors_close_to_largest(item.value(), weights[item.key()], 1e-5));
    }
    destroy_process_group();
  });
}

TEST(DataParallelTrainerTest, TwoRanksTakeTheStepsOfOneProcessWithLlama) {
  expect_the_steps_of_one_process(tiny_llama());
}

TEST(DataParallelTrainerTest, TwoRanksTakeTheStepsOfOneProcessWithGptj) {
  expect_the_steps_of_one_process(tiny_gptj());
}

TEST(DataParallelTrainerTest, RanksEvaluateAlikeAndStopTogetherWhenOneSaysSo) {
  run_on_ranks(2, [](const Rank& rank) {
    const auto group = rank.join();
    const auto model = tiny_model(tiny_llama());
    AdamW optimizer(trainable_parameters(*model), AdamWOptions(1e-2));
    const auto scheduler = get_scheduler(SchedulerType::kConstant, optimizer);
    BatchLoader data(std::make_shared<UnevenSamples>(), padding_collator(0),
                     {.batch_size = 2, .rank = group.rank(), .world_size = group.size()});
    std::vector<double> losses;
    TrainerCallbacks callbacks;
    callbacks.write_model = [&](const std::string& folder) { model->save_pretrained(folder); };
    callbacks.on_evaluate = [&](const Metrics& metrics, const TrainerState& state) {
      losses.push_back(metrics.at("eval_loss"));
      return rank.rank == 0 || state.global_step < 4;
    };
    Trainer trainer(
        *model, causal_lm_task(*model), optimizer, *scheduler,
        {.max_steps = 9,
         .output_dir = rank.folder,
         .save_steps = 2,
         .save_total_limit = 1,
         .evaluation = Evaluation{.dataset = std::make_shared<UnevenSamples>(), .collator = padding_collator(0)},
         .eval_steps = 2,
         .process_group = group},
        std::move(callbacks));
    EXPECT_EQ(trainer.train(data), 4);
    EXPECT_FALSE(trainer.is_finished());
    ASSERT_EQ(losses.size(), 2U);
    EXPECT_LT(losses[1], losses[0]);
    const auto sum = at::tensor({losses[1]}, at::kDouble);
    group.all_reduce(sum, ReduceOp::kSum).wait();
    EXPECT_NEAR(sum.item<double>(), 2 * losses[1], 1e-9);
    EXPECT_EQ(last_checkpoint(rank.folder), rank / "checkpoint-4");
    destroy_process_group();
  });
}

TEST(DataParallelTrainerTest, EveryRankIsToldWhenACheckpointCannotBeWritten) {
  run_on_ranks(2, [](const Rank& rank) {
    const auto group = rank.join();
    const auto model = tiny_model(tiny_llama());
    AdamW optimizer(trainable_parameters(*model), AdamWOptions(1e-2));
    const auto scheduler = get_scheduler(SchedulerType::kConstant, optimizer);
    BatchLoader data(std::make_shared<UnevenSamples>(), padding_collator(0),
                     {.batch_size = 2, .rank = group.rank(), .world_size = group.size()});
    TrainerCallbacks callbacks;
    callbacks.write_model = [](const std::string&) { TORCH_CHECK(false, "the disk is full"); };
    Trainer trainer(*model, causal_lm_task(*model), optimizer, *scheduler,
                    {.max_steps = 2, .output_dir = rank.folder, .save_steps = 1, .process_group = group},
                    std::move(callbacks));
    EXPECT_ERROR(trainer.train(data), "rank " + std::to_string(rank.rank) + " of 2", "the disk is full");
    EXPECT_EQ(last_checkpoint(rank.folder), "");
    destroy_process_group();
  });
}

}  // namespace
}  // namespace transformers::testing
