#pragma once

/// \file
/// LLaMA as torch::nn modules: attention, MLP, decoder layer, base model and the heads of HF, with HF's class, member
/// and parameter names. Everything that is not specific to LLaMA (masks, caches, loading, losses) is in utils/modeling;
/// use auto/modeling_auto.h where the family is known only from a folder.
///
///     LlamaConfig config;
///     config.num_hidden_layers = 2;
///     LlamaForCausalLM model(config);
///     const auto output = model->forward({.input_ids = ids});  // ids: int64 [batch, seq]
///     const at::Tensor next = output.logits.select(1, -1).argmax(-1);

#include <torch/nn/modules/container/modulelist.h>
#include <transformers/export.h>
#include <transformers/llama/configuration_llama.h>
#include <transformers/utils/modeling/activations.h>
#include <transformers/utils/modeling/attention.h>
#include <transformers/utils/modeling/base_model.h>
#include <transformers/utils/modeling/causal_lm.h>
#include <transformers/utils/modeling/clone_model.h>
#include <transformers/utils/modeling/forward_plan.h>
#include <transformers/utils/modeling/from_pretrained.h>
#include <transformers/utils/modeling/modeling_layers.h>
#include <transformers/utils/modeling/rope.h>
#include <transformers/utils/nn/module.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace TRANSFORMERS_API transformers {

// Mirrors models/llama/modeling_llama.py, transformers 5.23.0, class by class; `pretraining_tp` is that of 4.37.2.

namespace llama {
/// query, key: [batch, heads, seq, head_dim]; cos, sin: [batch or 1, seq, head_dim].
std::pair<at::Tensor, at::Tensor> apply_rotary_pos_emb(const at::Tensor& query, const at::Tensor& key,
                                                       const RotaryEmbeddings& position_embeddings);
/// Softmax of the scaled, masked scores in fp32; grouped keys and values are repeated.
AttentionResult eager_attention_forward(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                                        const at::Tensor& attention_mask, const AttentionOptions& options);
}  // namespace llama

/// x · rsqrt(mean x² + eps) in fp32, cast back, then times the weight. weight: [hidden].
class LlamaRMSNormImpl : public Cloneable<LlamaRMSNormImpl> {
 public:
  explicit LlamaRMSNormImpl(int64_t hidden_size, double eps = 1e-6);
  torch::Tensor forward(const torch::Tensor& hidden_states);
  auto members() { return std::tie(weight); }

  torch::Tensor weight;

 private:
  double variance_epsilon_;
};
TRANSFORMERS_MODULE(LlamaRMSNorm);

/// Computes the rotary angles of the positions once per forward, for all layers. The frequencies stay fp32 in every
/// cast.
class LlamaRotaryEmbeddingImpl : public Cloneable<LlamaRotaryEmbeddingImpl> {
 public:
  explicit LlamaRotaryEmbeddingImpl(const LlamaConfig& config);

  /// x gives dtype and device; position_ids: int64 [batch or 1, seq]. Returns cos, sin: [batch or 1, seq, head_dim].
  /// The dynamic and longrope types choose their frequencies by the largest position of this call alone. HF's dynamic
  /// type keeps those of the longest call so far, so that its results depend on earlier calls.
  RotaryEmbeddings forward(const torch::Tensor& x, const torch::Tensor& position_ids) const {
    return at_positions(x, position_ids, position_ids);
  }

  /// The angles of `positions`, with the frequencies of a call for `position_ids`.
  RotaryEmbeddings at_positions(const torch::Tensor& x, const torch::Tensor& positions,
                                const torch::Tensor& position_ids) const;
  auto members() { return std::tie(inv_freq); }

  torch::Tensor inv_freq;  // fp32 [head_dim / 2], for short calls

 private:
  torch::Tensor frequencies(const torch::Tensor& position_ids) const;

  RopeParameters rope_parameters_;
  RopeSizes sizes_;
  double attention_scaling_ = 1;
};
TRANSFORMERS_MODULE(LlamaRotaryEmbedding);

/// down(act(gate(x)) · up(x)).
class LlamaMLPImpl : public Cloneable<LlamaMLPImpl> {
 public:
  /// intermediate_size: that of a pruned layer; unset: the config's.
  explicit LlamaMLPImpl(const LlamaConfig& config, std::optional<int64_t> intermediate_size = std::nullopt);
  torch::Tensor forward(const torch::Tensor& x);
  auto members() { return std::tie(gate_proj, up_proj, down_proj, act_fn); }

  Linear gate_proj{nullptr}, up_proj{nullptr}, down_proj{nullptr};
  ActivationFunction act_fn{nullptr};
};
TRANSFORMERS_MODULE(LlamaMLP);

/// Computed once by the model and passed to every layer.
struct LlamaLayerInputs {
  AttnImplementation implementation = AttnImplementation::kSdpa;
  at::Tensor attention_mask{};                     // as `attention` takes it
  RotaryEmbeddings position_embeddings{};          // cos, sin: [batch or 1, seq, head_dim]
  std::shared_ptr<Cache> past_key_values{};        // null: no cache
  std::optional<RotaryEmbeddings> cache_rotary{};  // cos, sin: [positions, head_dim], for a cache that moves keys

  void move_to(c10::Device device);
};

/// Grouped-query attention with rotary positions.
class LlamaAttentionImpl : public Cloneable<LlamaAttentionImpl> {
 public:
  LlamaAttentionImpl(const LlamaConfig& config, int64_t layer_idx);

  /// hidden_states: [batch, seq, hidden]. Appends this call's keys and values to the cache when one is given.
  LayerOutput forward(const torch::Tensor& hidden_states, const LlamaLayerInputs& inputs);
  auto members() { return std::tie(q_proj, k_proj, v_proj, o_proj); }

  /// Sets the index of the layer's keys and values in a cache, after layers before it were removed.
  void set_layer_idx(int64_t layer_idx) { layer_idx_ = layer_idx; }

  Linear q_proj{nullptr}, k_proj{nullptr}, v_proj{nullptr}, o_proj{nullptr};

 private:
  int64_t layer_idx_, head_dim_;
  double attention_dropout_;
  bool is_causal_;
};
TRANSFORMERS_MODULE(LlamaAttention);

/// Attention, then MLP, each after its norm and with a residual connection.
class LlamaDecoderLayerImpl : public Cloneable<LlamaDecoderLayerImpl> {
 public:
  LlamaDecoderLayerImpl(const LlamaConfig& config, int64_t layer_idx);
  /// hidden_states: [batch, seq, hidden]; so is the result.
  LayerOutput forward(const torch::Tensor& hidden_states, const LlamaLayerInputs& inputs);
  auto members() { return std::tie(self_attn, mlp, input_layernorm, post_attention_layernorm); }

  /// See LlamaAttention.
  void set_layer_idx(int64_t layer_idx) { self_attn->set_layer_idx(layer_idx); }

  LlamaAttention self_attn{nullptr};
  LlamaMLP mlp{nullptr};
  LlamaRMSNorm input_layernorm{nullptr}, post_attention_layernorm{nullptr};
};
TRANSFORMERS_MODULE(LlamaDecoderLayer);

/// Embeddings, layers and the last norm. Mirrors HF `LlamaModel`.
class LlamaModelImpl : public CloneableModel<LlamaModelImpl, BaseModel> {
 public:
  using Config = LlamaConfig;
  explicit LlamaModelImpl(const LlamaConfig& config);

  /// Takes every field of ModelInputs except token_type_ids and head_mask. Throws on those, on shapes that do not fit
  /// together and on ids outside the vocabulary.
  BaseModelOutputWithPast forward(const ModelInputs& given) override;

  const LlamaConfig& config() const override { return config_; }
  LlamaConfig& config() override { return config_; }
  Embedding get_input_embeddings() override { return embed_tokens; }
  void set_input_embeddings(Embedding embeddings) override;
  ModelStructure structure() override;
  void select_layers(const std::vector<int64_t>& kept) override;

  Embedding embed_tokens{nullptr};
  torch::nn::ModuleList layers{nullptr};
  LlamaRMSNorm norm{nullptr};
  LlamaRotaryEmbedding rotary_emb{nullptr};

 private:
  std::optional<RotaryEmbeddings> cache_rotary(const at::Tensor& hidden_states, const ForwardPlan& plan) const;

  LlamaConfig config_;
};
TRANSFORMERS_MODEL(LlamaModel);

/// Computes next-token scores. Mirrors HF `LlamaForCausalLM`; `lm_head` has no bias and may share the embeddings'
/// weight.
class LlamaForCausalLMImpl : public CloneableModel<LlamaForCausalLMImpl, CausalLM> {
 public:
  using Config = LlamaConfig;
  explicit LlamaForCausalLMImpl(const LlamaConfig& config);

  CausalLMOutputWithPast forward(const ModelInputs& inputs, const CausalLMOptions& options = {}) override;

  const LlamaConfig& config() const override { return model->config(); }
  LlamaConfig& config() override { return model->config(); }
  BaseModel& base_model() override { return *model; }
  std::string base_model_prefix() const override { return "model"; }
  Linear get_output_embeddings() override { return lm_head; }
  void set_output_embeddings(Linear embeddings) override;
  LlamaModel get_decoder() const { return model; }
  /// The decoder's config becomes this model's. To tie the head to it, call `tie_weights`.
  void set_decoder(const LlamaModel& decoder) { model = LlamaModel(replace_module("model", decoder.ptr())); }

  LlamaModel model{nullptr};
  Linear lm_head{nullptr};
};
TRANSFORMERS_MODEL(LlamaForCausalLM);

/// Mirrors HF `LlamaForSequenceClassification`.
class LlamaForSequenceClassificationImpl
    : public CloneableModel<LlamaForSequenceClassificationImpl, GenericForSequenceClassification> {
 public:
  using Config = LlamaConfig;
  explicit LlamaForSequenceClassificationImpl(const LlamaConfig& config);
};
TRANSFORMERS_MODEL(LlamaForSequenceClassification);

/// Mirrors HF `LlamaForQuestionAnswering`; its base model is registered as `transformer`, as there.
class LlamaForQuestionAnsweringImpl
    : public CloneableModel<LlamaForQuestionAnsweringImpl, GenericForQuestionAnswering> {
 public:
  using Config = LlamaConfig;
  explicit LlamaForQuestionAnsweringImpl(const LlamaConfig& config);
};
TRANSFORMERS_MODEL(LlamaForQuestionAnswering);

/// Mirrors HF `LlamaForTokenClassification`.
class LlamaForTokenClassificationImpl
    : public CloneableModel<LlamaForTokenClassificationImpl, GenericForTokenClassification> {
 public:
  using Config = LlamaConfig;
  explicit LlamaForTokenClassificationImpl(const LlamaConfig& config);
};
TRANSFORMERS_MODEL(LlamaForTokenClassification);

}  // namespace transformers
