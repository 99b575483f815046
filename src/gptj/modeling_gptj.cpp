// Mirrors models/gptj/modeling_gptj.py, transformers 5.23.0; `head_mask` is that of 4.37.2.
#include <ATen/ATen.h>
#include <transformers/gptj/modeling_gptj.h>
#include <transformers/utils/modeling/forward_plan.h>
#include <transformers/utils/modeling/run_layers.h>

#include <cmath>

#include "utils/modeling/internal/functional.h"

namespace transformers {

namespace gptj {

namespace {

at::Tensor inverse_frequencies(int64_t dim) { return 1.0 / at::pow(10000, at::arange(0, dim, 2, at::kLong) / dim); }

}  // namespace

at::Tensor create_sinusoidal_positions(int64_t num_pos, int64_t dim) {
  const auto angles = at::arange(num_pos, at::kLong).to(at::kFloat).unsqueeze(1) * inverse_frequencies(dim);
  return at::cat({at::sin(angles), at::cos(angles)}, 1);
}

at::Tensor apply_rotary_pos_emb(const at::Tensor& tensor, const at::Tensor& sin, const at::Tensor& cos) {
  return functional::rotate_interleaved(tensor, cos, sin, /*training=*/false);
}

std::vector<at::Tensor> get_head_mask(const at::Tensor& head_mask, int64_t num_layers, int64_t num_heads,
                                      c10::ScalarType dtype) {
  auto mask = head_mask;
  if (mask.dim() == 1) {
    mask = mask.view({1, 1, -1, 1, 1}).expand({num_layers, -1, -1, -1, -1});
  } else if (mask.dim() == 2) {
    mask = mask.unsqueeze(1).unsqueeze(-1).unsqueeze(-1);
  }
  TORCH_CHECK(mask.dim() == 5 && mask.size(0) == num_layers && mask.size(2) == num_heads, "head_mask must be [",
              num_heads, "] or [", num_layers, ", ", num_heads, "], got ", head_mask.sizes());
  return mask.to(dtype).unbind(0);
}

namespace {

/// HF's `_attn`: q and k in fp32, so that half precision does not overflow in the scores.
EagerAttention eager_attention(const at::Tensor& head_mask, int64_t head_dim) {
  return [head_mask, head_dim](const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                               const at::Tensor& attention_mask, const AttentionOptions& options) -> AttentionResult {
    auto weights = at::matmul(query.to(at::kFloat), key.to(at::kFloat).transpose(-1, -2));
    weights = weights / std::sqrt(static_cast<double>(head_dim));
    if (attention_mask.defined()) {
      weights = weights + attention_mask;
    }
    weights = at::softmax(weights, -1).to(value.scalar_type());
    weights = at::dropout(weights, options.dropout, /*train=*/options.dropout > 0);
    if (head_mask.defined()) {
      weights = weights * head_mask;
    }
    return {at::matmul(weights, value), weights};
  };
}

/// Mirrors the method of that name of modeling_utils.py, transformers 4.37.2; it reads only ids that are on the CPU.
void warn_if_padding_and_no_attention_mask(const ModelInputs& inputs, const PretrainedConfig& config) {
  const auto& ids = inputs.input_ids;
  if (inputs.attention_mask.defined() || !config.pad_token_id || !ids.defined() || !ids.is_cpu()) {
    return;
  }
  const auto ends = at::stack({ids.select(1, 0), ids.select(1, -1)});
  if (ends.eq(*config.pad_token_id).any().item<bool>()) {
    TORCH_WARN_ONCE("input_ids hold the padding token ", *config.pad_token_id,
                    " at the start or end of a row and no attention_mask hides it");
  }
}

/// HF's models take ids of more than two dimensions.
ModelInputs flattened(ModelInputs inputs) {
  for (auto* ids : {&inputs.input_ids, &inputs.token_type_ids}) {
    if (ids->defined() && ids->dim() > 2) {
      *ids = ids->flatten(0, -2);
    }
  }
  return inputs;
}

}  // namespace

}  // namespace gptj

void GPTJLayerInputs::move_to(c10::Device device) {
  attention_mask = moved(attention_mask, device);
  position_embeddings = moved(position_embeddings, device);
  for (auto& mask : head_masks) {
    mask = mask.to(device);
  }
}

GPTJAttentionImpl::GPTJAttentionImpl(const GPTJConfig& config, int64_t layer_idx)
    : layer_idx_(layer_idx),
      head_dim_(config.head_size()),
      attn_pdrop_(config.attn_pdrop),
      resid_pdrop_(config.resid_pdrop),
      is_causal_(config.is_causal) {
  const auto size = config.num_heads_left(layer_idx) * head_dim_;  // n_embd, unless pruned
  const auto projection = [&](const char* name, int64_t in, int64_t out) {
    return register_module(name, Linear(in, out, /*bias=*/false));
  };
  k_proj = projection("k_proj", config.n_embd, size);
  v_proj = projection("v_proj", config.n_embd, size);
  q_proj = projection("q_proj", config.n_embd, size);
  out_proj = projection("out_proj", size, config.n_embd);
}

at::Tensor GPTJAttentionImpl::rotated(const at::Tensor& heads, const RotaryEmbeddings& position_embeddings) const {
  const auto& [cos, sin] = position_embeddings;
  return functional::rotate_interleaved(heads, cos, sin, is_training());
}

LayerOutput GPTJAttentionImpl::forward(const torch::Tensor& hidden_states, const GPTJLayerInputs& inputs) {
  // Rotation works on [batch, seq, heads, head_dim], attention on [batch, heads, seq, head_dim].
  const auto by_position = [&](Linear& projection) { return projection(hidden_states).unflatten(-1, {-1, head_dim_}); };
  const auto query = rotated(by_position(q_proj), inputs.position_embeddings).transpose(1, 2);
  auto key = rotated(by_position(k_proj), inputs.position_embeddings).transpose(1, 2);
  auto value = by_position(v_proj).transpose(1, 2);
  if (inputs.past_key_values) {
    std::tie(key, value) = inputs.past_key_values->update(key, value, layer_idx_);
  }

  const auto head_mask = inputs.head_masks.empty() ? at::Tensor() : inputs.head_masks[static_cast<size_t>(layer_idx_)];
  const auto [context, weights] = attention(inputs.implementation, gptj::eager_attention(head_mask, head_dim_), query,
                                            key, value, inputs.attention_mask,
                                            {.scaling = 1.0 / std::sqrt(static_cast<double>(head_dim_)),
                                             .dropout = is_training() ? attn_pdrop_ : 0.0,
                                             .is_causal = is_causal_});
  return {at::dropout(out_proj(merge_heads(context)), resid_pdrop_, is_training()), weights};
}

GPTJMLPImpl::GPTJMLPImpl(int64_t intermediate_size, const GPTJConfig& config) : resid_pdrop_(config.resid_pdrop) {
  fc_in = register_module("fc_in", Linear(config.n_embd, intermediate_size));
  fc_out = register_module("fc_out", Linear(intermediate_size, config.n_embd));
  act = register_module("act", ActivationFunction(config.activation_function));
}

torch::Tensor GPTJMLPImpl::forward(const torch::Tensor& hidden_states) {
  return at::dropout(fc_out(act(fc_in(hidden_states))), resid_pdrop_, is_training());
}

GPTJBlockImpl::GPTJBlockImpl(const GPTJConfig& config, int64_t layer_idx) {
  ln_1 = register_module("ln_1", LayerNorm(config.n_embd, config.layer_norm_epsilon));
  attn = register_module("attn", GPTJAttention(config, layer_idx));
  mlp = register_module("mlp", GPTJMLP(config.intermediate_size_left(layer_idx), config));
}

LayerOutput GPTJBlockImpl::forward(const torch::Tensor& hidden_states, const GPTJLayerInputs& inputs) {
  const auto normed = ln_1(hidden_states);
  const auto [attn_output, attentions] = attn(normed, inputs);
  return {attn_output + mlp(normed) + hidden_states, attentions};  // in HF's order of addition
}

GPTJModelImpl::GPTJModelImpl(const GPTJConfig& config) : config_(config) {
  config_.validate();
  build([&] {
    wte = register_module("wte", Embedding(config.vocab_size, config.n_embd));
    h = register_module("h", torch::nn::ModuleList());
    for (int64_t i = 0; i < config.n_layer; ++i) {
      h->push_back(GPTJBlock(config, i));
    }
    ln_f = register_module("ln_f", LayerNorm(config.n_embd, config.layer_norm_epsilon));
    inv_freq = register_non_persistent_buffer("inv_freq", gptj::inverse_frequencies(config.rotary_dim));
  });
}

at::Tensor GPTJModelImpl::embed(const ModelInputs& inputs) {
  auto embeds = inputs.inputs_embeds.defined() ? inputs.inputs_embeds : wte(inputs.input_ids);
  if (inputs.token_type_ids.defined()) {
    TORCH_CHECK(inputs.token_type_ids.sizes() == embeds.sizes().slice(0, 2), "token_type_ids must have shape ",
                embeds.sizes().slice(0, 2), ", got ", inputs.token_type_ids.sizes());
    embeds = embeds + wte(inputs.token_type_ids);
  }
  return at::dropout(embeds, config_.embd_pdrop, is_training());
}

RotaryEmbeddings GPTJModelImpl::position_embeddings(const at::Tensor& position_ids, c10::ScalarType dtype) const {
  if (position_ids.is_cpu()) {
    const auto [low, high] = at::aminmax(position_ids);
    TORCH_CHECK(low.item<int64_t>() >= 0 && high.item<int64_t>() < config_.n_positions, "position_ids must be in [0, ",
                config_.n_positions, ") (n_positions), got values from ", low.item<int64_t>(), " to ",
                high.item<int64_t>());
  }
  const auto angles = position_ids.to(at::kFloat).unsqueeze(-1) * inv_freq.to(position_ids.device());
  return {.cos = angles.cos().to(dtype), .sin = angles.sin().to(dtype)};
}

/// A mask lists all heads as before pruning; each layer gets the factors of its remaining heads.
std::vector<at::Tensor> GPTJModelImpl::head_masks(const ModelInputs& inputs) const {
  if (!inputs.head_mask.defined()) {
    return {};
  }
  auto masks = gptj::get_head_mask(inputs.head_mask, config_.n_layer, config_.n_head, dtype());
  for (const auto& [layer, pruned] : config_.pruned_heads) {
    auto& mask = masks[static_cast<size_t>(layer)];
    auto left = at::ones({config_.n_head}, at::kBool);
    left.index_fill_(0, at::tensor(pruned, at::kLong), false);
    mask = mask.index_select(1, left.nonzero().flatten().to(mask.device()));
  }
  return masks;
}

BaseModelOutputWithPast GPTJModelImpl::forward(const ModelInputs& given) {
  const auto inputs = gptj::flattened(without_cache_when_checkpointing(given));
  check_model_inputs(inputs, config_);
  gptj::warn_if_padding_and_no_attention_mask(inputs, config_);
  const bool starts_here = blocks_to_run().begin == 0;
  auto hidden_states = starts_here ? embed(inputs) : inputs.inputs_embeds;
  auto plan = plan_forward(inputs, hidden_states, config_);
  plan.output_hidden_states = static_cast<bool>(plan.output_hidden_states);  // as in HF: all if any are requested
  TORCH_CHECK(!plan.past_key_values || plan.past_key_values->rotary_positions() == 0,
              "GPT-J rotates neighbouring pairs; a cache that moves keys cannot hold them");

  GPTJLayerInputs layer_inputs{
      .implementation = plan.implementation,
      .attention_mask = plan.attention_mask,
      .position_embeddings = position_embeddings(plan.position_ids, hidden_states.scalar_type()),
      .past_key_values = plan.past_key_values,
      .head_masks = head_masks(inputs)};
  auto outputs = run_layers<GPTJBlock>(*this, h, std::move(hidden_states), std::move(layer_inputs), plan);
  if (runs_last_block()) {
    outputs.last_hidden_state = ln_f(outputs.last_hidden_state);
  }
  plan.add_hidden_state(outputs, outputs.last_hidden_state, plan.num_hidden_layers);
  return outputs;
}

void GPTJModelImpl::set_input_embeddings(Embedding embeddings) { wte = replace_module("wte", std::move(embeddings)); }

ModelStructure GPTJModelImpl::structure() {
  ModelStructure structure;
  for (size_t i = 0; i < h->size(); ++i) {
    const auto block = h->ptr<GPTJBlockImpl>(i);
    structure.layers.push_back({.block = block,
                                .query = block->attn->q_proj,
                                .key = block->attn->k_proj,
                                .value = block->attn->v_proj,
                                .attention_output = block->attn->out_proj,
                                .mlp_inputs = {block->mlp->fc_in},
                                .mlp_output = block->mlp->fc_out});
    structure.norms.push_back(block->ln_1.ptr());
  }
  structure.norms.push_back(ln_f.ptr());
  return structure;
}

void GPTJModelImpl::select_layers(const std::vector<int64_t>& kept) {
  h = replace_module("h", selected_layers<GPTJBlock>(h, kept));
}

void GPTJModelImpl::copy_settings(const PreTrainedModel& other) {
  BaseModel::copy_settings(other);
  const auto& model = dynamic_cast<const GPTJModelImpl&>(other);
  device_map_ = model.device_map_;
  first_device_ = model.first_device_;
  last_device_ = model.last_device_;
  embedding_hooks_ = model.embedding_hooks_;
  norm_hooks_ = model.norm_hooks_;
}

void GPTJForCausalLMImpl::copy_settings(const PreTrainedModel& other) {
  CausalLM::copy_settings(other);
  head_hooks_ = dynamic_cast<const GPTJForCausalLMImpl&>(other).head_hooks_;
}

GPTJForCausalLMImpl::GPTJForCausalLMImpl(const GPTJConfig& config) {
  build([&] {
    transformer = register_module("transformer", GPTJModel(config));
    lm_head = register_module("lm_head", Linear(config.n_embd, config.vocab_size));
  });
  generation_config = GenerationConfig::from_model_config(config);
}

CausalLMOutputWithPast GPTJForCausalLMImpl::forward(const ModelInputs& inputs, const CausalLMOptions& options) {
  return causal_lm_output(transformer(inputs), lm_head, options);
}

void GPTJForCausalLMImpl::set_output_embeddings(Linear embeddings) {
  lm_head = replace_module("lm_head", std::move(embeddings));
}

GPTJForSequenceClassificationImpl::GPTJForSequenceClassificationImpl(const GPTJConfig& config)
    : CloneableModel([&] { return GPTJModel(config).ptr(); }, "transformer") {}

GPTJForQuestionAnsweringImpl::GPTJForQuestionAnsweringImpl(const GPTJConfig& config)
    : CloneableModel([&] { return GPTJModel(config).ptr(); }, "transformer") {
  TORCH_CHECK(config.num_labels() == 2, "GPT-J question answering needs num_labels 2, got ", config.num_labels());
}

QuestionAnsweringModelOutput GPTJForQuestionAnsweringImpl::forward(const ModelInputs& inputs,
                                                                   const at::Tensor& start_positions,
                                                                   const at::Tensor& end_positions) {
  auto as_configured = inputs;
  as_configured.use_cache.reset();
  return GenericForQuestionAnswering::forward(as_configured, start_positions, end_positions);
}

GPTJForTokenClassificationImpl::GPTJForTokenClassificationImpl(const GPTJConfig& config)
    : CloneableModel([&] { return GPTJModel(config).ptr(); }, "transformer") {}

}  // namespace transformers
