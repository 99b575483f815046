#include "cli/finetune_task.h"

#include <transformers/utils/training/training_tasks.h>

#include "cli/finetune_data.h"
#include "cli/tokenizer_files.h"

namespace transformers::cli {
namespace {

/// The folder that the weights are read from.
ModelOptions source_of(const FinetuneOptions& options, const std::string& checkpoint) {
  auto source = options.model;
  if (!checkpoint.empty() && options.lora_r == 0) {
    source.model = checkpoint;
    source.config.clear();
  }
  return source;
}

Learner load_by_task(const FinetuneOptions& options, const ModelOptions& source) {
  switch (options.task) {
    case Task::kCausalLM: {
      const auto model = load_model<AutoModelForCausalLM>(source);
      return {model, causal_lm_task(*model, {options.label_smoothing, options.loss_chunk_rows})};
    }
    case Task::kSequenceClassification: {
      const auto model = load_model<AutoModelForSequenceClassification>(source);
      // A classifier needs the padding token to find the last token of a text.
      model->config().pad_token_id = padding_token(model->config());
      return {model, sequence_classification_task(*model)};
    }
    case Task::kQuestionAnswering: {
      const auto model = load_model<AutoModelForQuestionAnswering>(source);
      return {model, question_answering_task(*model)};
    }
    case Task::kTokenClassification: {
      const auto model = load_model<AutoModelForTokenClassification>(source);
      return {model, token_classification_task(*model)};
    }
    case Task::kBase:
      break;
  }
  TORCH_INTERNAL_ASSERT(false, "a model without a head learns nothing");
}

/// Newly initialized adapters, or those of a checkpoint.
void add_adapters(Learner& learner, const FinetuneOptions& options, const std::string& checkpoint) {
  learner.adapters = PeftModel(learner.model);
  if (!checkpoint.empty()) {
    learner.adapters->load_adapter("default", checkpoint, {.is_trainable = true});
    return;
  }
  LoraConfig config;
  config.task_type = std::string(kind_of(options.task).peft_type);
  config.base_model_name_or_path = options.model.model;
  config.r = options.lora_r;
  config.lora_alpha = options.lora_alpha.value_or(config.lora_alpha);
  config.lora_dropout = options.lora_dropout;
  config.target_modules.names = options.lora_targets;
  learner.adapters->add_adapter("default", config, {.seed = *options.model.seed});
}

/// AdamW divides by the root of the second moment and an eps of 1e-8, which are both 0 in float16.
void check_dtype(const PreTrainedModel& model, const FinetuneOptions& options) {
  TORCH_CHECK(options.lora_r > 0 || model.dtype() != at::kHalf || options.low_precision != "plain",
              "the weights are float16, in which plain training diverges: choose --dtype float32, or --low-precision "
              "master, which keeps a float32 copy");
}

}  // namespace

Learner load_learner(const FinetuneOptions& options, const std::string& checkpoint) {
  auto learner = load_by_task(options, source_of(options, checkpoint));
  check_dtype(*learner.model, options);
  if (options.lora_r > 0) {
    add_adapters(learner, options, checkpoint);
  }
  if (options.merge) {
    learner.adapters->check_mergeable();
  }
  if (options.gradient_checkpointing) {
    learner.model->gradient_checkpointing_enable();
  }
  return learner;
}

void write_model(const Learner& learner, const FinetuneOptions& options, const std::string& folder) {
  SaveTransaction save(folder);
  if (!options.tokenizer_folder().empty()) {
    add_tokenizer_files(save, read_tokenizer_files(options.tokenizer_folder()));
  }
  learner.adapters ? learner.adapters->save_pretrained(save) : learner.model->save_pretrained(save);
  save.commit();
}

}  // namespace transformers::cli
