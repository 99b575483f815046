#pragma once

#include <ATen/core/Tensor.h>
#include <transformers/export.h>
#include <transformers/utils/data/dataset.h>

#include <cstdint>
#include <functional>

namespace TRANSFORMERS_API transformers {

/// What a model said about a batch.
struct TaskOutput {
  at::Tensor loss{};
  /// By HF's output names: logits, start_logits, end_logits.
  Batch logits{};
};

/// How batches become a loss. A step's loss is a sum over all its micro-batches divided by what they count together, so
/// that accumulation changes nothing; HF's `num_items_in_batch`.
struct TrainingTask {
  /// What a batch adds to the denominator: its learned tokens, its rows.
  std::function<int64_t(const Batch& batch)> count_items{};
  /// The batch's share of the step's loss, []: its summed loss divided by `num_items`.
  std::function<at::Tensor(const Batch& batch, double num_items)> loss{};
  /// The loss, and the logits that metrics are made of. Needed by an evaluation with metrics alone.
  std::function<TaskOutput(const Batch& batch, double num_items)> predict{};
};

enum class Autocast { kNone, kBFloat16, kFloat16 };

}  // namespace transformers
