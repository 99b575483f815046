#include <ATen/ATen.h>
#include <transformers/llama/generation_llama.h>

namespace transformers::llama {
namespace {

at::Tensor unprocessed_ids(const at::Tensor& input_ids, const at::Tensor& attention_mask, int64_t past_length) {
  if (attention_mask.defined() && attention_mask.size(1) > input_ids.size(1)) {
    return input_ids.slice(1, past_length - attention_mask.size(1));
  }
  return past_length < input_ids.size(1) ? input_ids.slice(1, past_length) : input_ids;
}

}  // namespace

ModelInputs prepare_inputs_for_generation(const ModelInputs& inputs, std::optional<int64_t> seen_tokens) {
  TORCH_CHECK(inputs.input_ids.defined(), "prepare_inputs_for_generation needs input_ids");
  ModelInputs step = inputs;
  step.token_type_ids.reset();
  const auto* cache = inputs.past_key_values.get();
  if (cache != nullptr) {
    const auto length = cache->get_seq_length(), longest = cache->get_max_length();
    step.input_ids = unprocessed_ids(inputs.input_ids, inputs.attention_mask, seen_tokens.value_or(length));
    if (longest > 0 && step.attention_mask.defined() && length + step.input_ids.size(1) > longest) {
      step.attention_mask = step.attention_mask.slice(1, -longest);
    }
  }
  if (step.attention_mask.defined() && !step.position_ids.defined()) {
    const auto& mask = step.attention_mask;
    step.position_ids = (mask.to(at::kLong).cumsum(-1) - 1).masked_fill(mask.eq(0), 1);
    if (cache != nullptr) {
      step.position_ids = step.position_ids.slice(1, -step.input_ids.size(1));
    }
  }
  (inputs.inputs_embeds.defined() && cache == nullptr ? step.input_ids : step.inputs_embeds).reset();
  return step;
}

}  // namespace transformers::llama
