#pragma once

#include "utils/generation/generation_plan.h"

namespace transformers {

/// Runs the model step by step and maintains its inputs: mask, positions, token types and the cache.
class NextTokenScorer {
 public:
  /// first_input: see GenerationPlan.
  NextTokenScorer(CausalLM& model, ModelInputs inputs, int64_t first_input = 0);

  /// Raw scores of the next token, fp32 [rows, vocab]. input_ids: int64 [rows, seq], the whole text, which must be one
  /// column longer at each call.
  at::Tensor operator()(const at::Tensor& input_ids);

  /// Row i of the cache becomes what row beam_idx[i] was. beam_idx: int64 [rows].
  void reorder(const at::Tensor& beam_idx);

  const std::shared_ptr<Cache>& cache() const { return inputs_.past_key_values; }
  /// Outputs of the last call; empty unless requested.
  std::vector<at::Tensor>& attentions() { return attentions_; }
  std::vector<at::Tensor>& hidden_states() { return hidden_states_; }

 private:
  void extend_inputs();

  CausalLM& model_;
  ModelInputs inputs_;  // of the next step, without input_ids
  int64_t first_input_;
  bool first_step_ = true;
  std::vector<at::Tensor> attentions_, hidden_states_;
};

}  // namespace transformers
