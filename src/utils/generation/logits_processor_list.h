#pragma once

#include <transformers/utils/generation/generate.h>

namespace transformers {

/// The values that processors need in addition to their options.
struct ProcessorContext {
  CausalLM& model;
  std::vector<int64_t> eos_token_id;  // only ids in the vocabulary
  int64_t prompt_length;              // columns of the ids that the processors get
  int64_t max_length;
  at::Tensor attention_mask;  // of the prompt, [rows, seq]; undefined: no padding
};

/// The processors that the options ask for, in HF's order; those that would have no effect are omitted. Mirrors
/// `_get_logits_processor` (generation/utils.py, transformers 5.23.0).
std::vector<std::shared_ptr<LogitsProcessor>> make_logits_processors(const GenerationConfig& config,
                                                                     const ProcessorContext& context,
                                                                     const GenerateHooks& hooks);

}  // namespace transformers
