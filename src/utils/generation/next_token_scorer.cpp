// Mirrors `prepare_inputs_for_generation` and `_update_model_kwargs_for_generation` of generation/utils.py,
// transformers 5.23.0.
#include "utils/generation/next_token_scorer.h"

#include <ATen/ATen.h>

namespace transformers {

NextTokenScorer::NextTokenScorer(CausalLM& model, ModelInputs inputs, int64_t first_input)
    : model_(model), inputs_(std::move(inputs)), first_input_(first_input) {}

at::Tensor NextTokenScorer::operator()(const at::Tensor& input_ids) {
  auto step = inputs_;
  if (!step.inputs_embeds.defined()) {
    const auto first = first_step_ ? first_input_ : inputs_.past_key_values ? input_ids.size(1) - 1 : 0;
    step.input_ids = input_ids.slice(1, first).contiguous();
  }
  auto outputs = model_.forward(step, {.logits_to_keep = 1});
  attentions_ = std::move(outputs.attentions);
  hidden_states_ = std::move(outputs.hidden_states);
  first_step_ = false;
  extend_inputs();
  return outputs.logits.select(1, -1).to(at::kFloat);
}

void NextTokenScorer::extend_inputs() {
  const bool cached = inputs_.past_key_values != nullptr;
  // With a cache the next step takes one token, without one the whole text again.
  const auto extend = [&](at::Tensor& tensor, int64_t added) {
    if (tensor.defined()) {
      const auto next = tensor.slice(1, -1) + added;
      tensor = cached ? next : at::cat({tensor, next}, 1);
    }
  };
  extend(inputs_.position_ids, 1);
  extend(inputs_.token_type_ids, 0);
  if (auto& mask = inputs_.attention_mask; mask.defined()) {
    mask = at::cat({mask, at::ones({mask.size(0), 1}, mask.options())}, 1);
  }
  inputs_.inputs_embeds.reset();
}

void NextTokenScorer::reorder(const at::Tensor& beam_idx) {
  if (inputs_.past_key_values) {
    inputs_.past_key_values->reorder_cache(beam_idx);
  }
}

}  // namespace transformers
