#pragma once

#include <transformers/utils/modeling/modeling_utils.h>
#include <transformers/utils/training/evaluation.h>
#include <transformers/utils/training/peft_model.h>

#include <memory>
#include <string>

#include "cli/finetune_options.h"

namespace transformers::cli {

/// The model and how it learns.
struct Learner {
  std::shared_ptr<PreTrainedModel> model;
  TrainingTask task;
  PeftModel adapters{nullptr};  // with --lora-r

  torch::nn::Module& trained() { return adapters ? static_cast<torch::nn::Module&>(*adapters) : *model; }
};

/// As --task says, from the newest checkpoint of a run that goes on (empty: none), else from what the options name.
Learner load_learner(const FinetuneOptions& options, const std::string& checkpoint);

/// A model folder, or with adapters a folder of those; the tokenizer's files come along.
void write_model(const Learner& learner, const FinetuneOptions& options, const std::string& folder);
/// Puts the weights that write_model wrote there into the model.
void read_model(Learner& learner, const FinetuneOptions& options, const std::string& folder);

std::shared_ptr<const Dataset> training_data(const FinetuneOptions& options, const PreTrainedModel& model);
/// Fills short samples up.
DataCollator collator_for(const PreTrainedModel& model);

/// Of --eval-file, with the task's metrics; nullopt without one.
std::optional<Evaluation> evaluation_of(const FinetuneOptions& options, const PreTrainedModel& model);

}  // namespace transformers::cli
