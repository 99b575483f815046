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

/// Figures by name, e.g. "eval_loss".
using Metrics = std::map<std::string, double>;

/// All batches of an evaluation, in the order of the samples. Mirrors HF `EvalPrediction`, batch by batch, because
/// batches differ in length.
struct EvalPrediction {
  /// As the collator made them, labels among them.
  std::vector<Batch> inputs{};
  /// The logits, or what preprocess_logits_for_metrics made of them, on the CPU.
  std::vector<Batch> predictions{};
};

/// Held-out data, and what is to be known of a model's answers to it; HF's eval_dataset and the Trainer's arguments
/// that belong to it.
struct Evaluation {
  std::shared_ptr<const Dataset> dataset{};
  DataCollator collator{};
  int64_t per_device_eval_batch_size = 8;
  /// Figures beside the loss, e.g. {"accuracy", 0.9}; metrics.h computes the usual ones.
  std::function<Metrics(const EvalPrediction& prediction)> compute_metrics{};
  /// The names of what compute_metrics and derived_metrics give, where they are known beforehand.
  std::vector<std::string> metric_names{};
  /// Figures that follow from the others, e.g. the perplexity from "eval_loss".
  std::function<Metrics(const Metrics& metrics)> derived_metrics{};
  /// Makes the logits of a batch small before they are kept, e.g. their argmax.
  std::function<Batch(const Batch& logits)> preprocess_logits_for_metrics{};
};

/// "eval_loss", the mean over everything that counts in the data, and what compute_metrics and derived_metrics say,
/// each name with "eval_" before it. In eval mode, without gradients; the model's mode comes back. Throws when nothing
/// counts.
Metrics evaluate(torch::nn::Module& model, const TrainingTask& task, const Evaluation& evaluation,
                 Autocast autocast = Autocast::kNone);

}  // namespace transformers
