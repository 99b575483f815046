#pragma once

#include <ATen/core/Tensor.h>
#include <transformers/export.h>
#include <transformers/utils/configuration/output_hidden_states.h>
#include <transformers/utils/modeling/cache.h>

#include <memory>
#include <optional>
#include <vector>

namespace TRANSFORMERS_API transformers {

/// The arguments of HF's forward, by name. Undefined tensors and empty options stand for Python's None. Each family
/// documents which fields it takes and throws on the others.
struct ModelInputs {
  at::Tensor input_ids{};       // int64 [batch, seq]; exactly one of this and inputs_embeds
  at::Tensor attention_mask{};  // [batch, past + seq], nonzero = attend; or 4-D, see create_causal_mask
  at::Tensor position_ids{};    // int64 [batch or 1, seq]; undefined: they continue from the cache
  at::Tensor token_type_ids{};  // int64 [batch, seq]
  at::Tensor inputs_embeds{};   // [batch, seq, hidden]
  at::Tensor head_mask{};       // [heads] or [layers, heads]; 1 keeps a head
  std::shared_ptr<Cache> past_key_values{};
  std::optional<bool> use_cache{};  // unset: as the config says
  bool output_attentions = false;
  OutputHiddenStates output_hidden_states{};
};

inline at::Tensor& hooked_tensor(ModelInputs& inputs) {
  return inputs.input_ids.defined() ? inputs.input_ids : inputs.inputs_embeds;
}

/// The output of a decoder layer.
struct LayerOutput {
  at::Tensor hidden_states{};  // [batch, seq, hidden]
  at::Tensor attentions{};     // [batch, heads, seq, key]; eager only
};
inline at::Tensor& hooked_tensor(LayerOutput& output) { return output.hidden_states; }

// The outputs of HF's modeling_outputs.py. For outputs that were not requested, tensors are undefined, lists empty and
// pointers null.

struct BaseModelOutputWithPast {
  at::Tensor last_hidden_state{};  // [batch, seq, hidden]
  std::shared_ptr<Cache> past_key_values{};
  /// layers + 1 of [batch, seq, hidden]: each layer's input, then the normed output; undefined where not chosen
  std::vector<at::Tensor> hidden_states{};
  std::vector<at::Tensor> attentions{};  // one per layer, [batch, heads, seq, key]
};

inline at::Tensor& hooked_tensor(BaseModelOutputWithPast& output) { return output.last_hidden_state; }

struct CausalLMOutputWithPast {
  at::Tensor loss{};    // fp32 []
  at::Tensor logits{};  // [batch, kept positions, vocab]
  std::shared_ptr<Cache> past_key_values{};
  std::vector<at::Tensor> hidden_states{}, attentions{};
};

inline at::Tensor& hooked_tensor(CausalLMOutputWithPast& output) { return output.logits; }

struct SequenceClassifierOutputWithPast {
  at::Tensor loss{};    // []
  at::Tensor logits{};  // [batch, labels]
  std::shared_ptr<Cache> past_key_values{};
  std::vector<at::Tensor> hidden_states{}, attentions{};
};

struct QuestionAnsweringModelOutput {
  at::Tensor loss{};                        // []
  at::Tensor start_logits{}, end_logits{};  // [batch, seq]
  std::vector<at::Tensor> hidden_states{}, attentions{};
};

struct TokenClassifierOutput {
  at::Tensor loss{};    // fp32 []
  at::Tensor logits{};  // [batch, seq, labels]
  std::vector<at::Tensor> hidden_states{}, attentions{};
};

/// The fields in HF's order without the empty ones, lists and caches flattened in place: the elements of HF's tuple
/// form.
std::vector<at::Tensor> to_tuple(const BaseModelOutputWithPast& output);
std::vector<at::Tensor> to_tuple(const CausalLMOutputWithPast& output);
std::vector<at::Tensor> to_tuple(const SequenceClassifierOutputWithPast& output);
std::vector<at::Tensor> to_tuple(const QuestionAnsweringModelOutput& output);
std::vector<at::Tensor> to_tuple(const TokenClassifierOutput& output);

}  // namespace transformers
