#pragma once

#include <transformers/utils/generation/logits_process.h>

#include "utils/generation/next_token_scorer.h"

namespace transformers {

/// Classifier-free guidance: unconditional + scale · (conditional − unconditional), as log-probabilities. The
/// unconditional text begins with its own prompt and runs through the model separately.
class UnbatchedClassifierFreeGuidanceLogitsProcessor : public LogitsProcessor {
 public:
  /// unconditional_ids: int64 [rows, seq]; undefined: the last token of the conditional prompt. Its mask: [rows, seq];
  /// undefined: all ones.
  UnbatchedClassifierFreeGuidanceLogitsProcessor(double guidance_scale, CausalLM& model, at::Tensor unconditional_ids,
                                                 const at::Tensor& unconditional_attention_mask, bool use_cache);
  at::Tensor operator()(const at::Tensor& input_ids, const at::Tensor& scores) override;

 private:
  double guidance_scale_;
  at::Tensor unconditional_ids_;
  NextTokenScorer unconditional_;
  bool first_step_ = true;
};

}  // namespace transformers
