#include <ATen/ATen.h>
#include <transformers/utils/training/evaluation.h>

#include <algorithm>

#include "utils/training/autocast_region.h"

namespace transformers {
namespace {

/// Sets eval mode for its lifetime, if the model was in training mode.
class EvalMode {
 public:
  explicit EvalMode(torch::nn::Module& model) : model_(model), was_training_(model.is_training()) { model_.eval(); }
  ~EvalMode() { model_.train(was_training_); }
  EvalMode(const EvalMode&) = delete;
  EvalMode& operator=(const EvalMode&) = delete;

 private:
  torch::nn::Module& model_;
  bool was_training_;
};

Batch batch_at(int64_t first, const Evaluation& evaluation) {
  std::vector<Batch> samples;
  const auto end = std::min(first + evaluation.per_device_eval_batch_size, evaluation.dataset->size());
  for (auto i = first; i < end; ++i) {
    samples.push_back(evaluation.dataset->get(i));
  }
  return evaluation.collator(samples);
}

Batch kept_of(const Batch& logits, const Evaluation& evaluation) {
  const auto& reduce = evaluation.preprocess_logits_for_metrics;
  Batch kept;
  for (const auto& [name, tensor] : reduce ? reduce(logits) : logits) {
    kept[name] = tensor.cpu();
  }
  return kept;
}

void check(const TrainingTask& task, const Evaluation& evaluation) {
  TORCH_CHECK(evaluation.dataset && evaluation.dataset->size() > 0 && evaluation.collator,
              "an evaluation needs a dataset with samples and a collator");
  TORCH_CHECK(evaluation.per_device_eval_batch_size > 0, "per_device_eval_batch_size must be positive, got ",
              evaluation.per_device_eval_batch_size);
  TORCH_CHECK(!evaluation.compute_metrics || task.predict, "compute_metrics needs a task with predict");
}

}  // namespace

Metrics evaluate(torch::nn::Module& model, const TrainingTask& task, const Evaluation& evaluation, Autocast autocast) {
  check(task, evaluation);
  const at::NoGradGuard no_grad;
  const EvalMode mode(model);
  EvalPrediction all;
  double loss = 0, items = 0;
  for (int64_t first = 0; first < evaluation.dataset->size(); first += evaluation.per_device_eval_batch_size) {
    auto batch = batch_at(first, evaluation);
    const AutocastRegion region(model, autocast);
    items += static_cast<double>(task.count_items(batch));
    if (!evaluation.compute_metrics) {
      loss += task.loss(batch, 1).item<double>();
      continue;
    }
    const auto output = task.predict(batch, 1);
    loss += output.loss.item<double>();
    all.predictions.push_back(kept_of(output.logits, evaluation));
    all.inputs.push_back(std::move(batch));
  }
  TORCH_CHECK(items > 0, "evaluation: no label of the data counts");
  Metrics metrics{{"eval_loss", loss / items}};
  const auto add = [&metrics](const Metrics& more) {
    for (const auto& [name, value] : more) {
      metrics[name.starts_with("eval_") ? name : "eval_" + name] = value;
    }
  };
  if (evaluation.compute_metrics) {
    add(evaluation.compute_metrics(all));
  }
  if (evaluation.derived_metrics) {
    add(evaluation.derived_metrics(metrics));
  }
  return metrics;
}

}  // namespace transformers
