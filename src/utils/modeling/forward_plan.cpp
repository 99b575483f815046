#include <ATen/ATen.h>
#include <transformers/utils/modeling/forward_plan.h>
#include <transformers/utils/modeling/masking.h>

namespace transformers {
namespace {

void check_ids(const char* name, const at::Tensor& ids, int64_t vocab_size) {
  TORCH_CHECK(ids.scalar_type() == at::kLong || ids.scalar_type() == at::kInt, name, " must be int64 or int32, got ",
              ids.scalar_type());
  TORCH_CHECK(ids.dim() == 2, name, " must have shape [batch, seq], got ", ids.sizes());
  TORCH_CHECK(ids.numel() > 0, name, " must not be empty, got shape ", ids.sizes());
  if (ids.is_cpu()) {
    const auto [low, high] = at::aminmax(ids);
    TORCH_CHECK(low.item<int64_t>() >= 0 && high.item<int64_t>() < vocab_size, name, " must be in [0, ", vocab_size,
                "), got values from ", low.item<int64_t>(), " to ", high.item<int64_t>());
  }
}

void check_embeds(const at::Tensor& embeds, int64_t hidden_size) {
  TORCH_CHECK(embeds.dim() == 3 && embeds.size(2) == hidden_size && embeds.numel() > 0,
              "inputs_embeds must have shape [batch, seq, ", hidden_size, "], got ", embeds.sizes());
}

at::Tensor positions(const ModelInputs& inputs, const at::Tensor& inputs_embeds, const Cache* cache) {
  const auto batch = inputs_embeds.size(0), seq = inputs_embeds.size(1);
  if (!inputs.position_ids.defined()) {
    const auto past = cache != nullptr ? cache->get_usable_length(seq) : 0;
    return at::arange(past, past + seq, inputs_embeds.options().dtype(at::kLong)).unsqueeze(0);
  }
  const auto& ids = inputs.position_ids;
  TORCH_CHECK(at::isIntegralType(ids.scalar_type(), /*includeBool=*/false), "position_ids must be integers, got ",
              ids.scalar_type());
  TORCH_CHECK(ids.dim() == 2 && (ids.size(0) == batch || ids.size(0) == 1) && ids.size(1) == seq,
              "position_ids must have shape [", batch, " or 1, ", seq, "], got ", ids.sizes());
  return ids.to(inputs_embeds.device(), at::kLong);
}

}  // namespace

void check_model_inputs(const ModelInputs& inputs, const PretrainedConfig& config) {
  TORCH_CHECK(inputs.input_ids.defined() != inputs.inputs_embeds.defined(),
              "exactly one of input_ids and inputs_embeds must be given, got ",
              inputs.input_ids.defined() ? "both" : "neither");
  if (inputs.input_ids.defined()) {
    check_ids("input_ids", inputs.input_ids, config.vocab_size);
  } else {
    check_embeds(inputs.inputs_embeds, config.get_hidden_size());
  }
  if (inputs.token_type_ids.defined()) {
    check_ids("token_type_ids", inputs.token_type_ids, config.vocab_size);
  }
}

ForwardPlan plan_forward(const ModelInputs& inputs, const at::Tensor& inputs_embeds, const PretrainedConfig& config) {
  const bool output_attentions = inputs.output_attentions || config.output_attentions;
  ForwardPlan plan{
      .implementation =
          resolve_attn_implementation(config.attn_implementation, output_attentions || inputs.head_mask.defined()),
      .past_key_values = inputs.past_key_values,
      .position_ids = {},
      .attention_mask = {},
      .output_attentions = output_attentions,
      .output_hidden_states = inputs.output_hidden_states ? inputs.output_hidden_states : config.output_hidden_states,
      .num_hidden_layers = config.get_num_hidden_layers(),
  };
  if (!plan.past_key_values && inputs.use_cache.value_or(config.use_cache)) {
    plan.past_key_values = std::make_shared<DynamicCache>();
  }
  plan.position_ids = positions(inputs, inputs_embeds, plan.past_key_values.get());
  plan.attention_mask = create_causal_mask({
      .implementation = plan.implementation,
      .inputs_embeds = inputs_embeds,
      .attention_mask = inputs.attention_mask,
      .position_ids = inputs.position_ids.defined() ? plan.position_ids : at::Tensor(),
      .past_key_values = plan.past_key_values.get(),
      .is_causal = config.is_causal,
      .or_mask_function = {},
      .and_mask_function = {},
  });
  return plan;
}

void ForwardPlan::add_hidden_state(BaseModelOutputWithPast& outputs, const at::Tensor& hidden_states,
                                   int64_t index) const {
  if (output_hidden_states) {
    outputs.hidden_states.push_back(output_hidden_states.wants(index, num_hidden_layers + 1) ? hidden_states
                                                                                             : at::Tensor());
  }
}

}  // namespace transformers
