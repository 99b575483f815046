// Mirrors `prepare_inputs_for_generation` and `_update_model_kwargs_for_generation` of generation/utils.py,
// transformers 5.23.0.
#include "utils/generation/next_token_scorer.h"

#include <ATen/ATen.h>

namespace transformers {
namespace {

/// Makes a tensor [rows, columns] longer or shorter by `added` columns; each new column is the one before it plus
/// `step`.
at::Tensor resized(const at::Tensor& tensor, int64_t added, int64_t step) {
  if (!tensor.defined()) {
    return tensor;
  }
  if (added < 0) {
    return tensor.slice(1, 0, added);
  }
  return at::cat({tensor, tensor.slice(1, -1) + at::arange(1, added + 1, tensor.options()) * step}, 1);
}

void resize(ModelInputs& inputs, int64_t added) {
  if (added == 0) {
    return;
  }
  inputs.position_ids = resized(inputs.position_ids, added, 1);
  inputs.token_type_ids = resized(inputs.token_type_ids, added, 0);
  if (auto& mask = inputs.attention_mask; mask.defined()) {
    mask = added < 0 ? mask.slice(1, 0, added) : at::cat({mask, at::ones({mask.size(0), added}, mask.options())}, 1);
  }
}

at::Tensor last_columns(const at::Tensor& tensor, int64_t count) {
  return tensor.defined() ? tensor.slice(1, tensor.size(1) - count) : tensor;
}

}  // namespace

NextTokenScorer::NextTokenScorer(CausalLM& model, ModelInputs inputs, int64_t prompt_length, int64_t first_input)
    : model_(model), inputs_(std::move(inputs)), text_(prompt_length), seen_(first_input) {}

at::Tensor NextTokenScorer::operator()(const at::Tensor& input_ids) {
  auto scores = score(input_ids, 0).select(1, -1);
  set_text_length(text_ + 1);
  return scores;
}

ModelInputs NextTokenScorer::step_inputs(const at::Tensor& input_ids, int64_t drafted) const {
  auto step = inputs_;
  resize(step, drafted);
  if (!step.inputs_embeds.defined()) {
    const auto first = inputs_.past_key_values ? seen_ : 0;
    step.input_ids = input_ids.slice(1, first).contiguous();
    step.position_ids = last_columns(step.position_ids, step.input_ids.size(1));
    step.token_type_ids = last_columns(step.token_type_ids, step.input_ids.size(1));
  }
  return step;
}

at::Tensor NextTokenScorer::score(const at::Tensor& input_ids, int64_t drafted) {
  auto outputs = model_.forward(step_inputs(input_ids, drafted), {.logits_to_keep = drafted + 1});
  attentions_ = std::move(outputs.attentions);
  hidden_states_ = std::move(outputs.hidden_states);
  seen_ = text_ + drafted;
  inputs_.inputs_embeds.reset();
  return outputs.logits.slice(1, outputs.logits.size(1) - drafted - 1).to(at::kFloat);
}

void NextTokenScorer::set_text_length(int64_t length) {
  resize(inputs_, length - text_);
  text_ = length;
  if (const auto dropped = seen_ - (length - 1); dropped > 0) {
    if (inputs_.past_key_values) {
      dynamic_cast<DynamicCache&>(*inputs_.past_key_values).crop(-dropped);
    }
    seen_ -= dropped;
  }
}

void NextTokenScorer::reorder(const at::Tensor& beam_idx) {
  if (inputs_.past_key_values) {
    inputs_.past_key_values->reorder_cache(beam_idx);
  }
}

}  // namespace transformers
