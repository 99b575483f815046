#pragma once

#include <ATen/core/Tensor.h>
#include <transformers/export.h>
#include <transformers/utils/configuration/problem_type.h>

#include <optional>

namespace TRANSFORMERS_API transformers {

/// Labels with this value are ignored by every loss.
inline constexpr int64_t kIgnoreIndex = -100;

struct CausalLMLossOptions {
  at::Tensor labels{};                         // int64 [batch, seq]; the tokens themselves, shifted here
  at::Tensor shift_labels{};                   // instead of labels: already shifted
  std::optional<double> num_items_in_batch{};  // divides the sum; unset: the mean over counted labels
  double label_smoothing = 0;                  // share of the target that is spread over the vocabulary
};

/// The label of each position, int64 [batch, seq]: the shifted labels, or the labels moved forward by one.
at::Tensor next_token_labels(const CausalLMLossOptions& options);

/// Next-token cross-entropy in fp32, []. logits: [batch, seq, vocab]. Mirrors `ForCausalLMLoss` (loss_utils.py,
/// transformers 5.23.0), with the smoothing of its `LabelSmoother`. NaN when every label is ignored and no count is
/// given.
at::Tensor causal_lm_loss(const at::Tensor& logits, const CausalLMLossOptions& options);

/// The problem type that HF infers where the config has none: regression for one label, single-label classification for
/// integer labels, otherwise multi-label classification.
ProblemType infer_problem_type(int64_t num_labels, at::ScalarType labels_dtype);

/// pooled_logits: [batch, labels]; labels: [batch] or [batch, labels], depending on the problem type.
at::Tensor sequence_classification_loss(const at::Tensor& pooled_logits, const at::Tensor& labels,
                                        ProblemType problem_type);

/// logits: [batch, seq, labels]; labels: int64 [batch, seq]. Computed in fp32.
at::Tensor token_classification_loss(const at::Tensor& logits, const at::Tensor& labels);

/// Mean of the two cross-entropies; logits: [batch, seq]; positions: int64 [batch] or [batch, 1], clamped to [0, seq],
/// where seq itself is ignored.
at::Tensor question_answering_loss(const at::Tensor& start_logits, const at::Tensor& end_logits,
                                   const at::Tensor& start_positions, const at::Tensor& end_positions);

/// The right-most token of each row that is not padding, int64 [batch]; 0 for a row that is all padding.
at::Tensor last_non_pad_token(const at::Tensor& input_ids, int64_t pad_token_id);

}  // namespace transformers
