#pragma once

#include <torch/nn/module.h>
#include <transformers/export.h>
#include <transformers/utils/data/data_collator.h>
#include <transformers/utils/training/training_task.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace TRANSFORMERS_API transformers {

/// Values of metrics by name, e.g. "eval_loss".
using Metrics = std::map<std::string, double>;

/// All batches of an evaluation, in the order of the samples. Mirrors HF `EvalPrediction`, but keeps batches separate,
/// because they differ in length.
struct EvalPrediction {
  /// The batches of the collator, labels included.
  std::vector<Batch> inputs{};
  /// The logits, or the result of preprocess_logits_for_metrics, on the CPU.
  std::vector<Batch> predictions{};
};

/// Held-out data and the metrics to compute on it; HF's eval_dataset and the Trainer's arguments that belong to it.
struct Evaluation {
  std::shared_ptr<const Dataset> dataset{};
  DataCollator collator{};
  int64_t per_device_eval_batch_size = 8;
  /// Metrics beside the loss, e.g. {"accuracy", 0.9}; metrics.h computes the usual ones.
  std::function<Metrics(const EvalPrediction& prediction)> compute_metrics{};
  /// The names of the results of compute_metrics and derived_metrics, where they are known in advance.
  std::vector<std::string> metric_names{};
  /// Metrics computed from other metrics, e.g. the perplexity from "eval_loss".
  std::function<Metrics(const Metrics& metrics)> derived_metrics{};
  /// Reduces the logits of a batch before they are kept, e.g. to their argmax.
  std::function<Batch(const Batch& logits)> preprocess_logits_for_metrics{};
};

/// Returns "eval_loss", the mean over everything that counts in the data, and the results of compute_metrics and
/// derived_metrics, each name prefixed with "eval_". Runs in eval mode without gradients and restores the model's mode.
/// Throws when nothing counts.
Metrics evaluate(torch::nn::Module& model, const TrainingTask& task, const Evaluation& evaluation,
                 Autocast autocast = Autocast::kNone);

}  // namespace transformers
