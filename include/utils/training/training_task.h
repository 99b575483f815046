#pragma once

#include <ATen/core/Tensor.h>
#include <transformers/export.h>
#include <transformers/utils/data/dataset.h>

#include <cstdint>
#include <functional>

namespace TRANSFORMERS_API transformers {

/// The outputs of a model for a batch.
struct TaskOutput {
  at::Tensor loss{};
  /// Tensors by HF's output names: logits, start_logits, end_logits.
  Batch logits{};
};

/// How a loss is computed from batches. The loss of a step is a sum over all its micro-batches divided by the number of
/// items in all of them (HF's `num_items_in_batch`), so that accumulation does not change it.
struct TrainingTask {
  /// What a batch adds to the denominator, e.g. the number of its learned tokens or of its rows.
  std::function<int64_t(const Batch& batch)> count_items{};
  /// The batch's share of the step's loss, []: its summed loss divided by `num_items`.
  std::function<at::Tensor(const Batch& batch, double num_items)> loss{};
  /// The loss, and the logits from which metrics are computed. Only an evaluation with metrics needs it.
  std::function<TaskOutput(const Batch& batch, double num_items)> predict{};
};

enum class Autocast { kNone, kBFloat16, kFloat16 };

}  // namespace transformers
