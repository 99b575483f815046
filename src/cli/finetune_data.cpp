#include "cli/finetune_data.h"

#include <ATen/ATen.h>
#include <transformers/utils/data/question_answering_dataset.h>
#include <transformers/utils/data/token_classification_dataset.h>
#include <transformers/utils/modeling/losses.h>
#include <transformers/utils/tokenization/tokenizer.h>
#include <transformers/utils/training/task_metrics.h>

#include <cmath>

namespace transformers::cli {
namespace {

std::shared_ptr<QuestionAnsweringDataset> open_questions(const FinetuneOptions& options, const std::string& file) {
  return std::make_shared<QuestionAnsweringDataset>(
      file, load_tokenizer(options.tokenizer_folder()),
      QuestionAnsweringOptions{.max_seq_length = options.seq_length, .doc_stride = options.doc_stride});
}

std::shared_ptr<const Dataset> open_data(const FinetuneOptions& options, const std::string& file,
                                         const PreTrainedModel& model) {
  if (options.task == Task::kQuestionAnswering) {
    return open_questions(options, file);
  }
  const std::shared_ptr<const Tokenizer> tokenizer = load_tokenizer(options.tokenizer_folder());
  if (options.task == Task::kTokenClassification) {
    return std::make_shared<TokenClassificationDataset>(
        file, tokenizer, TokenClassificationOptions{options.seq_length, model.config().id2label});
  }
  if (!holds_objects(file)) {
    return std::make_shared<TextBlockDataset>(file, *tokenizer, options.seq_length);
  }
  const bool classes = options.task == Task::kSequenceClassification;
  return std::make_shared<JsonLinesDataset>(
      file, tokenizer, JsonLinesOptions{options.seq_length, classes ? model.config().num_labels() : 0});
}

/// Checks for what the model would otherwise refuse in the middle of the run.
SampleCheck check_for(const PreTrainedModel& model, Task task) {
  return [vocabulary = model.config().vocab_size, is_causal = task == Task::kCausalLM](const Batch& sample) {
    const auto check = [vocabulary](const char* name, const at::Tensor& ids) {
      TORCH_CHECK(ids.numel() > 0 && ids.min().item<int64_t>() >= 0 && ids.max().item<int64_t>() < vocabulary, name,
                  " must be in [0, ", vocabulary, "), the model's vocabulary, got values from ",
                  ids.numel() > 0 ? ids.min().item<int64_t>() : 0, " to ",
                  ids.numel() > 0 ? ids.max().item<int64_t>() : 0);
    };
    check("input_ids", sample.at("input_ids"));
    if (const auto labels = sample.find("labels"); is_causal && labels != sample.end()) {
      const auto counted = labels->second.masked_select(labels->second.ne(kIgnoreIndex));
      if (counted.numel() > 0) {
        check("labels that are not -100", counted);
      }
    }
  };
}

/// Calls `check_dataset` and adds the file's name to its errors.
CheckedDataset checked(const std::string& file, std::shared_ptr<const Dataset> data, const FinetuneOptions& options,
                       const PreTrainedModel& model, const TrainingTask& task) {
  try {
    return check_dataset(std::move(data), collator_for(model), task, check_for(model, options.task));
  } catch (const c10::Error& error) {
    const std::string message = error.what_without_backtrace();
    TORCH_CHECK(false, message.starts_with(file) ? "" : file + ": ", message);
  }
}

void add_metrics(Evaluation& evaluation, const FinetuneOptions& options, const PreTrainedModel& model) {
  switch (options.task) {
    case Task::kCausalLM:
      evaluation.metric_names = {"perplexity"};
      // Perplexity is easier to read than the loss of a language model.
      evaluation.derived_metrics = [](const Metrics& metrics) -> Metrics {
        return {{"perplexity", std::exp(metrics.at("eval_loss"))}};
      };
      break;
    case Task::kSequenceClassification:
      evaluation.metric_names = {"accuracy", "f1"};
      evaluation.compute_metrics = classification_metrics;
      break;
    case Task::kTokenClassification:
      evaluation.metric_names = token_classification_metric_names(model.config().id2label);
      evaluation.compute_metrics = [id2label = model.config().id2label](const EvalPrediction& prediction) {
        return token_classification_metrics(prediction, id2label);
      };
      break;
    case Task::kQuestionAnswering: {
      const auto questions = open_questions(options, options.eval_file);
      evaluation.metric_names = {"exact_match", "f1"};
      evaluation.dataset = questions;
      evaluation.compute_metrics = [questions](const EvalPrediction& prediction) {
        return question_answering_metrics(prediction, *questions);
      };
      break;
    }
    case Task::kBase:
      break;
  }
}

}  // namespace

int64_t padding_token(const PretrainedConfig& config) {
  return config.pad_token_id.value_or(config.eos_token_id.empty() ? 0 : config.eos_token_id.front());
}

DataCollator collator_for(const PreTrainedModel& model) { return padding_collator(padding_token(model.config())); }

CheckedDataset training_data(const FinetuneOptions& options, const PreTrainedModel& model, const TrainingTask& task) {
  const auto& file = options.train_ids.empty() ? options.train_file : options.train_ids;
  auto data = options.train_ids.empty() ? open_data(options, file, model)
                                        : std::shared_ptr<const Dataset>(TensorDataset::from_file(file));
  const auto samples = data->size();
  auto found = checked(file, data, options, model, task);
  if (!options.train_ids.empty()) {
    // Ids are trained unchanged, so that a run can be compared step by step; the trainer skips a step that has no
    // labels.
    found.dataset = std::move(data);
  } else if (found.left_out > 0) {
    inform("warning: " + file + ": " + std::to_string(found.left_out) + " of " + std::to_string(samples) +
           " samples have no label that counts, perhaps because it lies behind the first " +
           std::to_string(options.seq_length) + " tokens (--seq-length); they are left out");
  }
  return found;
}

std::optional<Evaluation> evaluation_of(const FinetuneOptions& options, const PreTrainedModel& model,
                                        const TrainingTask& task) {
  if (options.eval_file.empty()) {
    return std::nullopt;
  }
  Evaluation evaluation{.collator = collator_for(model), .per_device_eval_batch_size = options.batch_size};
  add_metrics(evaluation, options, model);
  if (!evaluation.dataset) {
    evaluation.dataset = open_data(options, options.eval_file, model);
  }
  checked(options.eval_file, evaluation.dataset, options, model, task);
  return evaluation;
}

}  // namespace transformers::cli
