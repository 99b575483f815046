#pragma once

/// \file
/// GPT-J as torch::nn modules: attention, MLP, block, base model and the heads of HF, with HF's class, member and
/// parameter names. Everything that is not specific to GPT-J (masks, caches, loading, losses) is in utils/modeling; use
/// auto/modeling_auto.h where the family is known only from a folder.
///
///     auto model = GPTJForCausalLM::from_pretrained("gpt-j-6b");
///     const auto output = model->forward({.input_ids = ids}, {.labels = ids});  // ids: int64 [batch, seq]
///     output.loss.backward();

#include <torch/nn/modules/container/modulelist.h>
#include <transformers/export.h>
#include <transformers/gptj/configuration_gptj.h>
#include <transformers/utils/modeling/activations.h>
#include <transformers/utils/modeling/attention.h>
#include <transformers/utils/modeling/base_model.h>
#include <transformers/utils/modeling/causal_lm.h>
#include <transformers/utils/modeling/clone_model.h>
#include <transformers/utils/modeling/from_pretrained.h>
#include <transformers/utils/modeling/modeling_layers.h>
#include <transformers/utils/modeling/rope.h>
#include <transformers/utils/nn/layer_norm.h>
#include <transformers/utils/nn/module.h>
#include <transformers/utils/placement/model_parallel_utils.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

namespace TRANSFORMERS_API transformers {

// Mirrors models/gptj/modeling_gptj.py, transformers 5.23.0, class by class; `head_mask` and `parallelize` are those of
// 4.37.2.

namespace gptj {
/// fp32 [num_pos, dim]: sines in the first half, cosines in the second.
at::Tensor create_sinusoidal_positions(int64_t num_pos, int64_t dim);
/// tensor: [batch, seq, heads, dim]; sin, cos: [batch or 1, seq, dim / 2], each value is for two neighbours.
at::Tensor apply_rotary_pos_emb(const at::Tensor& tensor, const at::Tensor& sin, const at::Tensor& cos);
/// Converts [heads] or [layers, heads] (or [layers, batch, heads, query, key]) to one tensor of factors per layer, each
/// [1, heads, 1, 1] in `dtype`. Mirrors `get_head_mask`, transformers 4.37.2.
std::vector<at::Tensor> get_head_mask(const at::Tensor& head_mask, int64_t num_layers, int64_t num_heads,
                                      c10::ScalarType dtype);
}  // namespace gptj

/// Computed once by the model and passed to every block.
struct GPTJLayerInputs {
  AttnImplementation implementation = AttnImplementation::kSdpa;
  at::Tensor attention_mask{};               // as `attention` takes it
  RotaryEmbeddings position_embeddings{};    // cos, sin: [batch or 1, seq, rotary_dim / 2] in the model's dtype
  std::shared_ptr<Cache> past_key_values{};  // null: no cache
  std::vector<at::Tensor> head_masks{};      // one per layer, [1, heads of the layer, 1, 1]; empty: all heads

  void move_to(c10::Device device);
};

/// Attention that rotates the first `rotary_dim` dimensions of each head in neighbouring pairs and computes scores in
/// fp32.
class GPTJAttentionImpl : public Cloneable<GPTJAttentionImpl> {
 public:
  GPTJAttentionImpl(const GPTJConfig& config, int64_t layer_idx);

  /// hidden_states: [batch, seq, hidden]. Appends this call's keys and values to the cache when one is given.
  LayerOutput forward(const torch::Tensor& hidden_states, const GPTJLayerInputs& inputs);
  auto members() { return std::tie(k_proj, v_proj, q_proj, out_proj); }

  /// Sets the index of the layer's keys and values in a cache, after layers before it were removed.
  void set_layer_idx(int64_t layer_idx) { layer_idx_ = layer_idx; }

  Linear k_proj{nullptr}, v_proj{nullptr}, q_proj{nullptr}, out_proj{nullptr};

 private:
  at::Tensor rotated(const at::Tensor& heads, const RotaryEmbeddings& position_embeddings) const;

  int64_t layer_idx_, head_dim_;
  double attn_pdrop_, resid_pdrop_;
  bool is_causal_;
};
TRANSFORMERS_MODULE(GPTJAttention);

/// fc_out(act(fc_in(x))).
class GPTJMLPImpl : public Cloneable<GPTJMLPImpl> {
 public:
  GPTJMLPImpl(int64_t intermediate_size, const GPTJConfig& config);
  torch::Tensor forward(const torch::Tensor& hidden_states);
  auto members() { return std::tie(fc_in, fc_out, act); }

  Linear fc_in{nullptr}, fc_out{nullptr};
  ActivationFunction act{nullptr};

 private:
  double resid_pdrop_;
};
TRANSFORMERS_MODULE(GPTJMLP);

/// One norm, then attention and MLP in parallel.
class GPTJBlockImpl : public Cloneable<GPTJBlockImpl> {
 public:
  GPTJBlockImpl(const GPTJConfig& config, int64_t layer_idx);
  LayerOutput forward(const torch::Tensor& hidden_states, const GPTJLayerInputs& inputs);
  auto members() { return std::tie(ln_1, attn, mlp); }

  /// See GPTJAttention.
  void set_layer_idx(int64_t layer_idx) { attn->set_layer_idx(layer_idx); }

  LayerNorm ln_1{nullptr};
  GPTJAttention attn{nullptr};
  GPTJMLP mlp{nullptr};
};
TRANSFORMERS_MODULE(GPTJBlock);

class GPTJModelImpl : public CloneableModel<GPTJModelImpl, BaseModel> {
 public:
  using Config = GPTJConfig;
  explicit GPTJModelImpl(const GPTJConfig& config);

  /// Takes every field of ModelInputs. token_type_ids are embedded by `wte` and added. head_mask uses eager attention.
  /// Throws on positions from n_positions on. input_ids of higher rank are flattened to [rows, seq].
  BaseModelOutputWithPast forward(const ModelInputs& given) override;

  /// Spreads the blocks over devices; an empty map spreads them evenly over all CUDA devices. `wte` goes to the first
  /// device (the CPU if it is listed, else the device with the lowest number), `ln_f` to the last. Hidden states, mask,
  /// positions and head mask move where the device changes; the keys and values of a block stay on its device. Throws,
  /// changing nothing, on a map that `assert_device_map` rejects and on devices that do not exist.
  void parallelize(const BlocksByDevice& device_map = {});
  /// Moves everything back to the CPU.
  void deparallelize();
  /// The current map; empty: not parallelized.
  const BlocksByDevice& device_map() const { return device_map_; }
  c10::Device first_device() const { return first_device_; }
  c10::Device last_device() const { return last_device_; }

  const GPTJConfig& config() const override { return config_; }
  GPTJConfig& config() override { return config_; }
  Embedding get_input_embeddings() override { return wte; }
  void set_input_embeddings(Embedding embeddings) override;
  ModelStructure structure() override;
  void select_layers(const std::vector<int64_t>& kept) override;
  void copy_settings(const PreTrainedModel& other) override;

  Embedding wte{nullptr};
  torch::nn::ModuleList h{nullptr};
  LayerNorm ln_f{nullptr};
  /// fp32 [rotary_dim / 2]. HF keeps a table of all positions in each layer (`embed_positions`). Here each call
  /// computes its own angles, once for all layers, so that the number of positions in a config takes no memory.
  torch::Tensor inv_freq;

 private:
  at::Tensor embed(const ModelInputs& inputs);
  std::vector<at::Tensor> head_masks(const ModelInputs& inputs) const;
  RotaryEmbeddings position_embeddings(const at::Tensor& position_ids, c10::ScalarType dtype) const;

  GPTJConfig config_;
  BlocksByDevice device_map_;
  c10::Device first_device_ = c10::kCPU, last_device_ = c10::kCPU;
  std::vector<ForwardHooks::HookId> embedding_hooks_, norm_hooks_;
};
TRANSFORMERS_MODEL(GPTJModel);

class GPTJForCausalLMImpl : public CloneableModel<GPTJForCausalLMImpl, CausalLM> {
 public:
  using Config = GPTJConfig;
  explicit GPTJForCausalLMImpl(const GPTJConfig& config);

  CausalLMOutputWithPast forward(const ModelInputs& inputs, const CausalLMOptions& options = {}) override;

  /// See GPTJModel; `lm_head` goes to the first device.
  void parallelize(const BlocksByDevice& device_map = {});
  void deparallelize();

  const GPTJConfig& config() const override { return transformer->config(); }
  GPTJConfig& config() override { return transformer->config(); }
  BaseModel& base_model() override { return *transformer; }
  std::string base_model_prefix() const override { return "transformer"; }
  Linear get_output_embeddings() override { return lm_head; }
  void set_output_embeddings(Linear embeddings) override;
  void copy_settings(const PreTrainedModel& other) override;

  GPTJModel transformer{nullptr};
  Linear lm_head{nullptr};

 private:
  std::vector<ForwardHooks::HookId> head_hooks_;
};
TRANSFORMERS_MODEL(GPTJForCausalLM);

class GPTJForSequenceClassificationImpl
    : public CloneableModel<GPTJForSequenceClassificationImpl, GenericForSequenceClassification> {
 public:
  using Config = GPTJConfig;
  explicit GPTJForSequenceClassificationImpl(const GPTJConfig& config);
};
TRANSFORMERS_MODEL(GPTJForSequenceClassification);

/// HF gives this head `num_labels` outputs and needs 2.
class GPTJForQuestionAnsweringImpl : public CloneableModel<GPTJForQuestionAnsweringImpl, GenericForQuestionAnswering> {
 public:
  using Config = GPTJConfig;
  explicit GPTJForQuestionAnsweringImpl(const GPTJConfig& config);
  /// HF's forward has no argument use_cache: the config decides, whatever `inputs` says. Packed rows need
  /// config().use_cache to be false.
  QuestionAnsweringModelOutput forward(const ModelInputs& inputs, const at::Tensor& start_positions = {},
                                       const at::Tensor& end_positions = {}) override;
};
TRANSFORMERS_MODEL(GPTJForQuestionAnswering);

/// HF has no such class for GPT-J; this is LLaMA's head on GPT-J.
class GPTJForTokenClassificationImpl
    : public CloneableModel<GPTJForTokenClassificationImpl, GenericForTokenClassification> {
 public:
  using Config = GPTJConfig;
  explicit GPTJForTokenClassificationImpl(const GPTJConfig& config);
};
TRANSFORMERS_MODEL(GPTJForTokenClassification);

}  // namespace transformers
