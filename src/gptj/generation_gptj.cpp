#include <ATen/ATen.h>
#include <transformers/gptj/generation_gptj.h>

namespace transformers::gptj {

ModelInputs prepare_inputs_for_generation(const ModelInputs& inputs) {
  TORCH_CHECK(inputs.input_ids.defined(), "prepare_inputs_for_generation needs input_ids");
  ModelInputs step = inputs;
  const auto past_length = inputs.past_key_values ? inputs.past_key_values->get_seq_length() : 0;
  const auto given = inputs.input_ids.size(1);
  const auto kept = given > past_length ? given - past_length : 1;
  if (past_length > 0) {
    step.input_ids = inputs.input_ids.slice(1, -kept);
    if (step.token_type_ids.defined()) {
      step.token_type_ids = step.token_type_ids.slice(1, -kept);
    }
  }
  if (step.attention_mask.defined() && !step.position_ids.defined()) {
    const auto& mask = step.attention_mask;
    step.position_ids = (mask.to(at::kLong).cumsum(-1) - 1).masked_fill(mask.eq(0), 1);
    if (past_length > 0) {
      step.position_ids = step.position_ids.slice(1, -kept);
    }
  }
  (inputs.inputs_embeds.defined() && inputs.past_key_values == nullptr ? step.input_ids : step.inputs_embeds).reset();
  return step;
}

}  // namespace transformers::gptj
