#pragma once

#include <transformers/utils/modeling/pretrained_model.h>
#include <transformers/utils/peft/peft_model.h>
#include <transformers/utils/training/training_task.h>

#include <memory>
#include <string>

#include "cli/finetune_options.h"

namespace transformers::cli {

/// The model and its training task.
struct Learner {
  std::shared_ptr<PreTrainedModel> model;
  TrainingTask task;
  PeftModel adapters{nullptr};  // with --lora-r

  torch::nn::Module& trained() { return adapters ? static_cast<torch::nn::Module&>(*adapters) : *model; }
};

/// Loads the model for --task from the newest checkpoint of a resumed run (empty: none), else from the folder in the
/// options. Throws early where the run would fail later: weights that its optimizer cannot update, adapters that cannot
/// be merged.
Learner load_learner(const FinetuneOptions& options, const std::string& checkpoint);

/// Writes a model folder, or with adapters an adapter folder, together with the files of the tokenizer.
void write_model(const Learner& learner, const FinetuneOptions& options, const std::string& folder);
}  // namespace transformers::cli
