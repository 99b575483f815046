#pragma once

#include <transformers/export.h>
#include <transformers/utils/modeling/configuration_utils.h>
#include <transformers/utils/modeling/modeling_outputs.h>

#include <memory>

namespace TRANSFORMERS_API transformers {

/// Throws on what no model takes: both or neither of input_ids and inputs_embeds, wrong ranks and dtypes, ids outside
/// the vocabulary (looked at on the CPU only: elsewhere it would stall the device).
void check_model_inputs(const ModelInputs& inputs, const PretrainedConfig& config);

/// What a base model settles before its first layer.
struct ForwardPlan {
  AttnImplementation implementation;       // resolved
  std::shared_ptr<Cache> past_key_values;  // null: none in, none out
  at::Tensor position_ids;                 // int64 [batch or 1, seq]
  at::Tensor attention_mask;               // as `attention` takes it
  bool output_attentions;
  OutputHiddenStates output_hidden_states;
  int64_t num_hidden_layers;

  /// Appends the input of layer `index`, or what the last layer gave where `index` is the number of layers, to the
  /// output's hidden states, where the call asks for it.
  void add_hidden_state(BaseModelOutputWithPast& outputs, const at::Tensor& hidden_states, int64_t index) const;
};

/// Cache, positions and mask of a call, as HF's models prepare them. Attention weights, which `output_attentions` and a
/// `head_mask` need, take the eager implementation.
ForwardPlan plan_forward(const ModelInputs& inputs, const at::Tensor& inputs_embeds, const PretrainedConfig& config);

/// The same tensor where it is there already; undefined stays undefined.
inline at::Tensor moved(const at::Tensor& tensor, c10::Device device) {
  return tensor.defined() ? tensor.to(device) : tensor;
}
inline RotaryEmbeddings moved(const RotaryEmbeddings& tables, c10::Device device) {
  return {.cos = moved(tables.cos, device), .sin = moved(tables.sin, device)};
}

}  // namespace transformers
