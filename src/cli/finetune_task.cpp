#include "cli/finetune_task.h"

#include <transformers/utils/io/safetensors.h>
#include <transformers/utils/tokenization/tokenizer.h>
#include <transformers/utils/training/question_answering_dataset.h>
#include <transformers/utils/training/task_metrics.h>
#include <transformers/utils/training/token_classification_dataset.h>
#include <transformers/utils/training/training_tasks.h>

#include <filesystem>

#include "cli/tokenizer_files.h"

namespace transformers::cli {
namespace {

/// Where the weights come from.
ModelOptions source_of(const FinetuneOptions& options, const std::string& checkpoint) {
  auto source = options.model;
  if (!checkpoint.empty() && options.lora_r == 0) {
    source.model = checkpoint;
    source.config.clear();
  }
  return source;
}

int64_t padding_token(const PretrainedConfig& config) {
  return config.pad_token_id.value_or(config.eos_token_id.empty() ? 0 : config.eos_token_id.front());
}

Learner load_by_task(const FinetuneOptions& options, const ModelOptions& source) {
  if (options.task == "sequence-classification") {
    const auto model = load_model<AutoModelForSequenceClassification>(source);
    // A classifier finds the last token of a text by it.
    model->config().pad_token_id = padding_token(model->config());
    return {model, sequence_classification_task(*model)};
  }
  if (options.task == "question-answering") {
    const auto model = load_model<AutoModelForQuestionAnswering>(source);
    return {model, question_answering_task(*model)};
  }
  if (options.task == "token-classification") {
    const auto model = load_model<AutoModelForTokenClassification>(source);
    return {model, token_classification_task(*model)};
  }
  const auto model = load_model<AutoModelForCausalLM>(source);
  return {model, causal_lm_task(*model, {options.label_smoothing, options.loss_chunk_rows})};
}

std::string peft_task_type(const std::string& task) {
  return task == "sequence-classification" ? "SEQ_CLS"
         : task == "question-answering"    ? "QUESTION_ANS"
         : task == "token-classification"  ? "TOKEN_CLS"
                                           : "CAUSAL_LM";
}

/// Fresh adapters, or those of a checkpoint.
void add_adapters(Learner& learner, const FinetuneOptions& options, const std::string& checkpoint) {
  learner.adapters = PeftModel(learner.model);
  if (!checkpoint.empty()) {
    learner.adapters->load_adapter("default", checkpoint, {.is_trainable = true});
    return;
  }
  LoraConfig config;
  config.task_type = peft_task_type(options.task);
  config.base_model_name_or_path = options.model.model;
  config.r = options.lora_r;
  config.lora_alpha = options.lora_alpha.value_or(config.lora_alpha);
  config.lora_dropout = options.lora_dropout;
  config.target_modules.names = options.lora_targets;
  learner.adapters->add_adapter("default", config, {.seed = *options.model.seed});
}

std::shared_ptr<QuestionAnsweringDataset> open_questions(const FinetuneOptions& options, const std::string& file) {
  return std::make_shared<QuestionAnsweringDataset>(
      file, load_tokenizer(options.tokenizer_folder()),
      QuestionAnsweringOptions{.max_seq_length = options.seq_length, .doc_stride = options.doc_stride});
}

std::shared_ptr<const Dataset> open_data(const FinetuneOptions& options, const std::string& file,
                                         const PreTrainedModel& model) {
  if (options.task == "question-answering") {
    return open_questions(options, file);
  }
  const std::shared_ptr<const Tokenizer> tokenizer = load_tokenizer(options.tokenizer_folder());
  if (options.task == "token-classification") {
    return std::make_shared<TokenClassificationDataset>(
        file, tokenizer, TokenClassificationOptions{options.seq_length, model.config().id2label});
  }
  if (!file.ends_with(".jsonl")) {
    return std::make_shared<TextBlockDataset>(file, *tokenizer, options.seq_length);
  }
  const bool classes = options.task == "sequence-classification";
  return std::make_shared<JsonLinesDataset>(
      file, tokenizer, JsonLinesOptions{options.seq_length, classes ? model.config().num_labels() : 0});
}

void add_metrics(Evaluation& evaluation, const FinetuneOptions& options, const PreTrainedModel& model) {
  if (options.task == "sequence-classification") {
    evaluation.compute_metrics = classification_metrics;
  } else if (options.task == "token-classification") {
    evaluation.compute_metrics = [id2label = model.config().id2label](const EvalPrediction& prediction) {
      return token_classification_metrics(prediction, id2label);
    };
  } else if (options.task == "question-answering") {
    const auto questions = open_questions(options, options.eval_file);
    evaluation.dataset = questions;
    evaluation.compute_metrics = [questions](const EvalPrediction& prediction) {
      return questions->metrics(prediction);
    };
  }
}

template <typename Auto>
void copy_weights(PreTrainedModel& model, const std::string& folder) {
  load_state_dict(model, state_dict(*Auto::from_pretrained(folder, {.dtype = model.dtype()})));
}

void read_adapters(const PeftModel& adapters, const std::string& folder) {
  const at::NoGradGuard no_grad;
  const SafetensorsFile file((std::filesystem::path(folder) / "adapter_model.safetensors").string());
  for (const auto& item : adapters->get_peft_model_state_dict()) {
    item.value().copy_(file.tensor(item.key()));
  }
}

}  // namespace

Learner load_learner(const FinetuneOptions& options, const std::string& checkpoint) {
  auto learner = load_by_task(options, source_of(options, checkpoint));
  if (options.lora_r > 0) {
    add_adapters(learner, options, checkpoint);
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

void read_model(Learner& learner, const FinetuneOptions& options, const std::string& folder) {
  if (learner.adapters) {
    read_adapters(learner.adapters, folder);
  } else if (options.task == "sequence-classification") {
    copy_weights<AutoModelForSequenceClassification>(*learner.model, folder);
  } else if (options.task == "question-answering") {
    copy_weights<AutoModelForQuestionAnswering>(*learner.model, folder);
  } else if (options.task == "token-classification") {
    copy_weights<AutoModelForTokenClassification>(*learner.model, folder);
  } else {
    copy_weights<AutoModelForCausalLM>(*learner.model, folder);
  }
}

std::shared_ptr<const Dataset> training_data(const FinetuneOptions& options, const PreTrainedModel& model) {
  return options.train_ids.empty() ? open_data(options, options.train_file, model)
                                   : TensorDataset::from_file(options.train_ids);
}

DataCollator collator_for(const PreTrainedModel& model) { return padding_collator(padding_token(model.config())); }

std::optional<Evaluation> evaluation_of(const FinetuneOptions& options, const PreTrainedModel& model) {
  if (options.eval_file.empty()) {
    return std::nullopt;
  }
  Evaluation evaluation{.collator = collator_for(model), .per_device_eval_batch_size = options.batch_size};
  add_metrics(evaluation, options, model);
  if (!evaluation.dataset) {
    evaluation.dataset = open_data(options, options.eval_file, model);
  }
  return evaluation;
}

}  // namespace transformers::cli
