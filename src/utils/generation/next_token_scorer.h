#pragma once

#include "utils/generation/generation_plan.h"

namespace transformers {

/// Runs the model step by step and maintains its inputs: mask, positions, token types and the cache.
class NextTokenScorer {
 public:
  /// inputs: those of the prompt, without input_ids. prompt_length: columns of its ids; first_input: see
  /// GenerationPlan.
  NextTokenScorer(CausalLM& model, ModelInputs inputs, int64_t prompt_length, int64_t first_input = 0);

  /// Raw scores of the next token, fp32 [rows, vocab]. input_ids: int64 [rows, seq], the whole text, which must be one
  /// column longer at each call.
  at::Tensor operator()(const at::Tensor& input_ids);

  /// Raw scores of the next token behind the text, and behind each of the `drafted` tokens that follow the text in
  /// input_ids [rows, text + drafted]: fp32 [rows, drafted + 1, vocab]. The text stays as it is.
  at::Tensor score(const at::Tensor& input_ids, int64_t drafted);
  /// The text now has `length` columns. The cache drops what it holds of later columns and of the last one, so that the
  /// next call has a token to run. Dropping needs a DynamicCache.
  void set_text_length(int64_t length);

  /// Row i of the cache becomes what row beam_idx[i] was. beam_idx: int64 [rows].
  void reorder(const at::Tensor& beam_idx);

  const std::shared_ptr<Cache>& cache() const { return inputs_.past_key_values; }
  /// Outputs of the last call; empty unless requested.
  const std::vector<at::Tensor>& attentions() const { return attentions_; }
  const std::vector<at::Tensor>& hidden_states() const { return hidden_states_; }

 private:
  ModelInputs step_inputs(const at::Tensor& input_ids, int64_t drafted) const;

  CausalLM& model_;
  ModelInputs inputs_;  // of the whole text, without input_ids
  int64_t text_;        // columns
  int64_t seen_;        // columns that the cache holds
  std::vector<at::Tensor> attentions_, hidden_states_;
};

}  // namespace transformers
