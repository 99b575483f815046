#pragma once

#include <transformers/auto/modeling_auto.h>
#include <transformers/utils/optim/parameter_groups.h>
#include <transformers/utils/training/trainer.h>
#include <transformers/utils/training/training_tasks.h>

#include <memory>
#include <string>

namespace transformers::testing {

/// Ten random texts of six tokens, the same in every run.
std::shared_ptr<TensorDataset> random_samples(int64_t count = 10);

/// A tiny GPT-J with dropout everywhere.
std::shared_ptr<CausalLM> model_with_dropout();

void expect_same_weights(const CausalLM& model, const CausalLM& expected);

/// Nine steps over shuffled data with dropout and, unless the arguments say one, two micro-batches a step, which may
/// stop, be saved and go on.
struct TrainingRun {
  std::shared_ptr<CausalLM> model;
  AdamW optimizer;
  std::unique_ptr<LRScheduler> scheduler;
  BatchLoader data;
  Trainer trainer;

  TrainingRun(std::shared_ptr<CausalLM> of, const std::string& output_dir, TrainingArguments arguments,
              TrainerCallbacks callbacks = {});
};

/// What evaluations of the tests go through: four texts the training does not see.
Evaluation held_out();

}  // namespace transformers::testing
