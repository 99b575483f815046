#include <ATen/ATen.h>
#include <transformers/utils/modeling/causal_lm.h>
#include <transformers/utils/modeling/linear_cross_entropy.h>
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

const CrossEntropyMethod* cross_entropy_method(const Linear& lm_head) {
  return dynamic_cast<const CrossEntropyMethod*>(lm_head->method().get());
}

/// Computes the loss from the hidden states, with the logits of a few positions at a time.
at::Tensor chunked_loss(const at::Tensor& hidden_states, const Linear& lm_head, const CausalLMLossOptions& loss,
                        int64_t chunk_rows) {
  TORCH_CHECK(
      allows_chunked_loss(lm_head),
      "loss_chunk_rows needs a plain lm_head: one that is packed, quantised, adapted or hooked gives its logits");
  const auto* method = cross_entropy_method(lm_head);
  const auto labels = next_token_labels(loss).reshape({-1}).to(hidden_states.device());
  const auto rows = hidden_states.flatten(0, 1);
  const LinearCrossEntropyOptions options{
      .chunk_rows = chunk_rows, .num_items_in_batch = loss.num_items_in_batch, .label_smoothing = loss.label_smoothing};
  return method ? method->cross_entropy(*lm_head, rows, labels, options)
                : linear_cross_entropy(rows, lm_head->weight, lm_head->bias, labels, options);
}

}  // namespace

bool allows_chunked_loss(const Linear& lm_head) {
  return (lm_head->method() == nullptr || cross_entropy_method(lm_head) != nullptr) && !lm_head->has_forward_hooks();
}

CausalLMOutputWithPast causal_lm_output(BaseModelOutputWithPast outputs, Linear& lm_head,
                                        const CausalLMOptions& options) {
  const bool with_loss = options.labels.defined() || options.shift_labels.defined();
  const CausalLMLossOptions loss_options{options.labels, options.shift_labels, options.num_items_in_batch,
                                         options.label_smoothing};
  const auto hidden_states = kept_positions(outputs.last_hidden_state, options);
  at::Tensor logits, loss;
  if (with_loss && options.loss_chunk_rows > 0) {
    loss = chunked_loss(hidden_states, lm_head, loss_options, options.loss_chunk_rows);
  } else {
    logits = lm_head(hidden_states);
    loss = with_loss ? causal_lm_loss(logits, loss_options) : at::Tensor();
  }
  return {loss, logits, std::move(outputs.past_key_values), std::move(outputs.hidden_states),
          std::move(outputs.attentions)};
}

}  // namespace transformers
