#pragma once

#include <transformers/utils/modeling/configuration_utils.h>
#include <transformers/utils/modeling/modeling_outputs.h>

#include <memory>

namespace transformers {

/// Throws on what no model takes: both or neither of input_ids and inputs_embeds, wrong ranks and dtypes, ids outside
/// the vocabulary (looked at on the CPU only: elsewhere it would stall the device).
void check_model_inputs(const ModelInputs& inputs, const PretrainedConfig& config);

/// Warns once when ids begin or end a row with padding and no mask says so. Mirrors the method of that name of
/// transformers 4.37.2; looked at on the CPU only.
void warn_if_padding_and_no_attention_mask(const ModelInputs& inputs, const PretrainedConfig& config);

/// What a base model settles before its first layer.
struct ForwardPlan {
  AttnImplementation implementation;       // resolved
  std::shared_ptr<Cache> past_key_values;  // null: none in, none out
  at::Tensor position_ids;                 // int64 [batch or 1, seq]
  at::Tensor attention_mask;               // as `attention` takes it
  bool output_attentions;
  OutputHiddenStates output_hidden_states;
};

/// Cache, positions and mask of a call, as HF's models prepare them. `weights_wanted`: the call needs attention weights
/// inside, for which only eager will do.
ForwardPlan plan_forward(const ModelInputs& inputs, const at::Tensor& inputs_embeds, const PretrainedConfig& config,
                         bool weights_wanted = false);

/// The same tensor where it is there already; undefined stays undefined.
inline at::Tensor moved(const at::Tensor& tensor, c10::Device device) {
  return tensor.defined() ? tensor.to(device) : tensor;
}
inline RotaryEmbeddings moved(const RotaryEmbeddings& tables, c10::Device device) {
  return {.cos = moved(tables.cos, device), .sin = moved(tables.sin, device)};
}

/// Brings hidden states, and what a block takes beside them, to where the block runs.
template <typename LayerInputs>
void hop(c10::Device device, at::Tensor& hidden_states, LayerInputs& inputs) {
  hidden_states = hidden_states.to(device);
  inputs.attention_mask = moved(inputs.attention_mask, device);
  inputs.position_embeddings = moved(inputs.position_embeddings, device);
}

}  // namespace transformers
