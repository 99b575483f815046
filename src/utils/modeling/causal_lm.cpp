#include <ATen/ATen.h>
#include <transformers/utils/modeling/causal_lm.h>
#include <transformers/utils/modeling/losses.h>

namespace transformers {
namespace {

at::Tensor kept_positions(const at::Tensor& hidden_states, const CausalLMOptions& options) {
  if (options.positions_to_keep.defined()) {
    return hidden_states.index_select(1, options.positions_to_keep.to(hidden_states.device()));
  }
  const auto seq = hidden_states.size(1);
  TORCH_CHECK(options.logits_to_keep >= 0, "logits_to_keep must not be negative, got ", options.logits_to_keep);
  return options.logits_to_keep == 0 || options.logits_to_keep >= seq
             ? hidden_states
             : hidden_states.narrow(1, seq - options.logits_to_keep, options.logits_to_keep);
}

}  // namespace

CausalLMOutputWithPast causal_lm_output(BaseModelOutputWithPast outputs, Linear& lm_head,
                                        const CausalLMOptions& options) {
  const auto logits = lm_head(kept_positions(outputs.last_hidden_state, options));
  at::Tensor loss;
  if (options.labels.defined() || options.shift_labels.defined()) {
    loss = causal_lm_loss(logits, {options.labels, options.shift_labels, options.num_items_in_batch});
  }
  return {loss, logits, std::move(outputs.past_key_values), std::move(outputs.hidden_states),
          std::move(outputs.attentions)};
}

}  // namespace transformers
