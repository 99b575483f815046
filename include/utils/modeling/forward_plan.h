#pragma once

#include <transformers/export.h>
#include <transformers/utils/configuration/configuration_utils.h>
#include <transformers/utils/modeling/modeling_outputs.h>

#include <memory>

namespace TRANSFORMERS_API transformers {

/// Throws on inputs that no model takes: both or neither of input_ids and inputs_embeds, wrong ranks and dtypes, ids
/// outside the vocabulary (checked on the CPU only, as a check would stall other devices).
void check_model_inputs(const ModelInputs& inputs, const PretrainedConfig& config);

/// What a base model decides before its first layer.
struct ForwardPlan {
  AttnImplementation implementation;       // resolved
  std::shared_ptr<Cache> past_key_values;  // null: no cache is used or returned
  at::Tensor position_ids;                 // int64 [batch or 1, seq]
  at::Tensor attention_mask;               // as `attention` takes it
  bool output_attentions;
  OutputHiddenStates output_hidden_states;
  int64_t num_hidden_layers;

  /// Appends to the output's hidden states, where the call asks for it, the input of layer `index`, or the result of
  /// the last layer where `index` is the number of layers.
  void add_hidden_state(BaseModelOutputWithPast& outputs, const at::Tensor& hidden_states, int64_t index) const;
};

/// Prepares cache, positions and mask of a call as HF's models do. Uses the eager implementation where attention
/// weights are needed: for `output_attentions` and for a `head_mask`.
ForwardPlan plan_forward(const ModelInputs& inputs, const at::Tensor& inputs_embeds, const PretrainedConfig& config);

/// The tensor on `device`, without a copy where it is there already; an undefined tensor stays undefined.
inline at::Tensor moved(const at::Tensor& tensor, c10::Device device) {
  return tensor.defined() ? tensor.to(device) : tensor;
}
inline RotaryEmbeddings moved(const RotaryEmbeddings& tables, c10::Device device) {
  return {.cos = moved(tables.cos, device), .sin = moved(tables.sin, device)};
}

}  // namespace transformers
