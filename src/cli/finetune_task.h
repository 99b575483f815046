#pragma once

#include <transformers/utils/modeling/pretrained_model.h>
#include <transformers/utils/peft/peft_model.h>
#include <transformers/utils/training/training_task.h>

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
/// Throws where the run could not end well: weights that its optimizer cannot step, adapters that cannot be merged.
Learner load_learner(const FinetuneOptions& options, const std::string& checkpoint);

/// A model folder, or with adapters a folder of those; the tokenizer's files come along.
void write_model(const Learner& learner, const FinetuneOptions& options, const std::string& folder);
}  // namespace transformers::cli
