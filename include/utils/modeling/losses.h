#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

namespace transformers {

/// Labels with this value are left out of every loss.
inline constexpr int64_t kIgnoreIndex = -100;

struct CausalLMLossOptions {
  at::Tensor labels{};                         // int64 [batch, seq]; the token itself, shifted here
  at::Tensor shift_labels{};                   // instead of labels: already shifted
  std::optional<double> num_items_in_batch{};  // divides the sum; unset: the mean over counted labels
};

/// Next-token cross-entropy in fp32, []. logits: [batch, seq, vocab]. Mirrors `ForCausalLMLoss` (loss_utils.py,
/// transformers 5.23.0): NaN when every label is ignored and no count is given.
at::Tensor causal_lm_loss(const at::Tensor& logits, const CausalLMLossOptions& options);

enum class ProblemType { kRegression, kSingleLabelClassification, kMultiLabelClassification };

/// What HF takes where the config names none: one label is a regression, integer labels choose one of many.
ProblemType infer_problem_type(int64_t num_labels, at::ScalarType labels_dtype);

/// pooled_logits: [batch, labels]; labels: [batch] or [batch, labels] by problem.
at::Tensor sequence_classification_loss(const at::Tensor& pooled_logits, const at::Tensor& labels,
                                        ProblemType problem_type);

/// logits: [batch, seq, labels]; labels: int64 [batch, seq]. Computed in fp32.
at::Tensor token_classification_loss(const at::Tensor& logits, const at::Tensor& labels);

/// Mean of the two cross-entropies; logits: [batch, seq]; positions: int64 [batch] or [batch, 1], clamped to [0, seq],
/// where seq itself is ignored.
at::Tensor question_answering_loss(const at::Tensor& start_logits, const at::Tensor& end_logits,
                                   const at::Tensor& start_positions, const at::Tensor& end_positions);

/// The right-most token of each row that is not padding, int64 [batch]; 0 for a row of padding alone.
at::Tensor last_non_pad_token(const at::Tensor& input_ids, int64_t pad_token_id);

}  // namespace transformers
