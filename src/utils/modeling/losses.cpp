#include <ATen/ATen.h>
#include <ATen/core/Reduction.h>
#include <transformers/utils/modeling/losses.h>

namespace transformers {
namespace {

at::Tensor cross_entropy(const at::Tensor& logits, const at::Tensor& labels, int64_t ignore_index,
                         at::Reduction::Reduction reduction = at::Reduction::Mean, double label_smoothing = 0) {
  return at::cross_entropy_loss(logits, labels, {}, reduction, ignore_index, label_smoothing);
}

}  // namespace

at::Tensor next_token_labels(const CausalLMLossOptions& options) {
  return options.shift_labels.defined() ? options.shift_labels
                                        : at::constant_pad_nd(options.labels, {0, 1}, kIgnoreIndex).slice(-1, 1);
}

at::Tensor causal_lm_loss(const at::Tensor& logits, const CausalLMLossOptions& options) {
  const auto scores = logits.to(at::kFloat);
  const auto flat_labels = next_token_labels(options).reshape({-1}).to(scores.device());
  const auto flat_scores = scores.view({-1, scores.size(-1)});
  TORCH_CHECK(flat_scores.size(0) == flat_labels.size(0), "labels must have one entry per logit row, ",
              flat_scores.size(0), ", got ", flat_labels.size(0));
  if (!options.num_items_in_batch) {
    return cross_entropy(flat_scores, flat_labels, kIgnoreIndex, at::Reduction::Mean, options.label_smoothing);
  }
  return cross_entropy(flat_scores, flat_labels, kIgnoreIndex, at::Reduction::Sum, options.label_smoothing) /
         *options.num_items_in_batch;
}

ProblemType infer_problem_type(int64_t num_labels, at::ScalarType labels_dtype) {
  if (num_labels == 1) {
    return ProblemType::kRegression;
  }
  return labels_dtype == at::kLong || labels_dtype == at::kInt ? ProblemType::kSingleLabelClassification
                                                               : ProblemType::kMultiLabelClassification;
}

at::Tensor sequence_classification_loss(const at::Tensor& pooled_logits, const at::Tensor& labels,
                                        ProblemType problem_type) {
  const auto num_labels = pooled_logits.size(-1);
  const auto target = labels.to(pooled_logits.device());
  switch (problem_type) {
    case ProblemType::kRegression:
      return num_labels == 1 ? at::mse_loss(pooled_logits.squeeze(), target.squeeze())
                             : at::mse_loss(pooled_logits, target);
    case ProblemType::kSingleLabelClassification:
      return cross_entropy(pooled_logits.view({-1, num_labels}), target.view({-1}), kIgnoreIndex);
    case ProblemType::kMultiLabelClassification:
      return at::binary_cross_entropy_with_logits(pooled_logits, target);
  }
  TORCH_INTERNAL_ASSERT(false, "problem type without a loss");
}

at::Tensor token_classification_loss(const at::Tensor& logits, const at::Tensor& labels) {
  return cross_entropy(logits.to(at::kFloat).view({-1, logits.size(-1)}), labels.reshape({-1}).to(logits.device()),
                       kIgnoreIndex);
}

at::Tensor question_answering_loss(const at::Tensor& start_logits, const at::Tensor& end_logits,
                                   const at::Tensor& start_positions, const at::Tensor& end_positions) {
  const auto ignored = start_logits.size(1);
  const auto loss = [&](const at::Tensor& logits, const at::Tensor& positions) {
    const auto flat = positions.dim() > 1 ? positions.squeeze(-1) : positions;
    return cross_entropy(logits, flat.to(logits.device()).clamp(0, ignored), ignored);
  };
  return (loss(start_logits, start_positions) + loss(end_logits, end_positions)) / 2;
}

at::Tensor last_non_pad_token(const at::Tensor& input_ids, int64_t pad_token_id) {
  const auto places = at::arange(input_ids.size(-1), input_ids.options().dtype(at::kInt));
  return (places * input_ids.ne(pad_token_id).to(at::kInt)).argmax(-1);
}

}  // namespace transformers
