#include <ATen/ATen.h>
#include <transformers/auto/modeling_auto.h>
#include <transformers/utils/optim/parameter_groups.h>
#include <transformers/utils/peft/peft_model.h>
#include <transformers/utils/quantization/weight_only.h>
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

TEST(DataParallelTrainerTest, RanksThatDisagreeOnASettingAreToldBeforeTheFirstStep) {
  struct Case {
    std::string name;
    double rate = 1e-2;
    int64_t batch_size = 2;
    uint64_t seed = 42;
    TrainingArguments arguments{};
  };
  run_on_ranks(2, [](const Rank& rank) {
    const auto group = rank.join();
    const bool other = rank.rank == 1;
    std::vector<Case> cases{{.name = "learning rates", .rate = other ? 2e-2 : 1e-2},
                            {.name = "global_batch_size", .batch_size = other ? 3 : 2},
                            {.name = "order of the data", .seed = other ? 43U : 42U},
                            {.name = "max_steps", .arguments = {.max_steps = other ? 3 : 2}},
                            {.name = "max_grad_norm", .arguments = {.max_grad_norm = other ? 0.5 : 1}},
                            {.name = "data", .arguments = {.settings = {{"data", other ? "b" : "a"}}}}};
    for (auto& c : cases) {
      SCOPED_TRACE(c.name);
      const auto model = tiny_model(tiny_llama());
      AdamW optimizer(trainable_parameters(*model), AdamWOptions(c.rate));
      const auto scheduler = get_scheduler(SchedulerType::kConstant, optimizer);
      BatchLoader data(std::make_shared<UnevenSamples>(), padding_collator(0),
                       {.batch_size = c.batch_size, .seed = c.seed, .rank = group.rank(), .world_size = group.size()});
      c.arguments.max_steps = std::max<int64_t>(2, c.arguments.max_steps);
      c.arguments.process_group = group;
      Trainer trainer(*model, causal_lm_task(*model), optimizer, *scheduler, c.arguments);
      EXPECT_ERROR(trainer.train(data), "of 2: the ranks disagree on " + c.name, "rank 0 has", "rank 1 has");
      EXPECT_EQ(trainer.steps_done(), 0);
    }
    destroy_process_group();
  });
}

/// Steps of a rank, from the checkpoint if there is one.
std::shared_ptr<CausalLM> train_to_step(int64_t step, const ProcessGroup& group, const std::string& folder,
                                        const std::string& checkpoint) {
  const std::shared_ptr<CausalLM> model =
      checkpoint.empty() ? tiny_model(tiny_llama()) : AutoModelForCausalLM::from_pretrained(checkpoint);
  AdamW optimizer(trainable_parameters(*model), AdamWOptions(1e-2));
  const auto scheduler = get_scheduler(SchedulerType::kConstant, optimizer);
  BatchLoader data(std::make_shared<UnevenSamples>(), padding_collator(0),
                   {.batch_size = 2, .rank = group.rank(), .world_size = group.size()});
  Trainer trainer(*model, causal_lm_task(*model), optimizer, *scheduler,
                  {.max_steps = step, .output_dir = folder, .save_steps = 2, .process_group = group});
  if (!checkpoint.empty()) {
    trainer.resume(checkpoint, data);
  }
  trainer.train(data);
  return model;
}

// Of three values the sum depends on which two are added first, and that on the layout of the buckets.
TEST(DataParallelTrainerTest, ThreeRanksThatResumeAreBitEqualToRanksThatNothingInterrupted) {
  run_on_ranks(3, [](const Rank& rank) {
    const auto group = rank.join();
    const auto expected = train_to_step(6, group, rank / "whole", "");
    const auto found = train_to_step(6, group, rank / "resumed", rank / "whole/checkpoint-2");
    for (const auto& item : state_dict(*expected)) {
      EXPECT_TENSORS_EQUAL(state_dict(*found)[item.key()], item.value()) << item.key();
    }
    destroy_process_group();
  });
}

/// Three steps of an adapter over weights in 8 bits.
std::shared_ptr<PeftModelImpl> train_over_rounded_weights(const std::optional<ProcessGroup>& group,
                                                          int64_t batch_size) {
  const auto model = tiny_model(tiny_llama());
  quantize(model->base_model());
  const auto adapters = std::make_shared<PeftModelImpl>(model);
  adapters->add_adapter("default", {.r = 2});
  AdamW optimizer(trainable_parameters(*adapters), AdamWOptions(1e-2).eps(1e-3));
  const auto scheduler = get_scheduler(SchedulerType::kConstant, optimizer);
  BatchLoader data(
      std::make_shared<UnevenSamples>(), padding_collator(0),
      {.batch_size = batch_size, .rank = group ? group->rank() : 0, .world_size = group ? group->size() : 1});
  Trainer(*adapters, causal_lm_task(*model), optimizer, *scheduler, {.max_steps = 3, .process_group = group})
      .train(data);
  return adapters;
}

TEST(DataParallelTrainerTest, RanksTrainAdaptersOverQuantisedWeights) {
  run_on_ranks(2, [](const Rank& rank) {
    const auto found = train_over_rounded_weights(rank.join(), 2),
               expected = train_over_rounded_weights(std::nullopt, 4);
    const auto weights = expected->get_peft_model_state_dict();
    for (const auto& item : found->get_peft_model_state_dict()) {
      SCOPED_TRACE(item.key());
      EXPECT_TRUE(tensors_close_to_largest(item.value(), weights[item.key()], 1e-4));
    }
    destroy_process_group();
  });
}

}  // namespace
}  // namespace transformers::testing
