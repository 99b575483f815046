#pragma once

#include <transformers/utils/generation/generate.h>

namespace transformers {

/// Who drafts tokens for the model to verify, and how many.
struct DraftOptions {
  bool are_wanted;
  std::optional<int64_t> prompt_lookup_num_tokens;  // unset: an assistant model drafts
  int64_t max_matching_ngram_size;
  int64_t num_assistant_tokens;  // at first
  bool is_heuristic;             // the number of tokens changes with success
  double assistant_confidence_threshold;
};

/// A call of `generate` after preparation: options are resolved, and inputs are checked, expanded and on the model's
/// device.
struct GenerationPlan {
  // Options
  bool do_sample;
  int64_t num_beams, num_return_sequences;
  EarlyStopping early_stopping;
  double length_penalty;
  int64_t max_length;  // of `input_ids`
  bool output_scores, output_logits;
  std::vector<int64_t> eos_token_id;  // only ids in the vocabulary; empty: none
  std::optional<int64_t> pad_token_id;
  DraftOptions drafts;

  at::Tensor input_ids;      // int64 [rows, seq]; no columns when only embeddings are given
  ModelInputs model_inputs;  // all but input_ids; the mask is undefined if nothing is padded
  int64_t first_input;       // the column of input_ids where the first step begins; the cache holds earlier ones
  int64_t prompt_tokens;     // without padding

  std::vector<std::shared_ptr<LogitsProcessor>> logits_processors;
  std::vector<std::shared_ptr<StoppingCriteria>> stopping_criteria;
};

/// Throws as `generate` does.
GenerationPlan plan_generation(CausalLM& model, const ModelInputs& inputs, const GenerationConfig& config,
                               const GenerateHooks& hooks);

/// Applies the processors one after the other.
at::Tensor process(const GenerationPlan& plan, const at::Tensor& input_ids, const at::Tensor& scores);
/// The rows that any criterion ends, bool [rows].
at::Tensor finished(const GenerationPlan& plan, const at::Tensor& input_ids, const std::vector<at::Tensor>& scores);

}  // namespace transformers
