#pragma once

#include <transformers/utils/generation/generate.h>

namespace transformers {

/// A call of `generate` with everything settled: options resolved, inputs checked, expanded and on the model's device.
struct GenerationPlan {
  // Options
  bool do_sample;
  int64_t num_beams, num_return_sequences;
  EarlyStopping early_stopping;
  double length_penalty;
  int64_t max_length;  // of `input_ids`
  bool output_scores, output_logits;
  std::vector<int64_t> eos_token_id;  // those of the vocabulary; empty: none
  std::optional<int64_t> pad_token_id;

  at::Tensor input_ids;      // int64 [rows, seq]; no columns when only embeddings are given
  ModelInputs model_inputs;  // all but input_ids; the mask undefined where nothing is padded
  int64_t first_input;       // the column of input_ids where the first step begins: the cache holds those before
  int64_t prompt_tokens;     // padding left out

  std::vector<std::shared_ptr<LogitsProcessor>> logits_processors;
  std::vector<std::shared_ptr<StoppingCriteria>> stopping_criteria;
};

/// Throws as `generate` does.
GenerationPlan plan_generation(CausalLM& model, const ModelInputs& inputs, const GenerationConfig& config,
                               const GenerateHooks& hooks);

/// The processors in turn.
at::Tensor process(const GenerationPlan& plan, const at::Tensor& input_ids, const at::Tensor& scores);
/// bool [rows]: those that any criterion ends.
at::Tensor finished(const GenerationPlan& plan, const at::Tensor& input_ids, const std::vector<at::Tensor>& scores);

}  // namespace transformers
