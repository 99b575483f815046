// Mirrors models/llama/modeling_llama.py, transformers 5.23.0; `pretraining_tp` is that of 4.37.2.
#include <ATen/ATen.h>
#include <transformers/llama/modeling_llama.h>
#include <transformers/utils/modeling/forward_plan.h>
#include <transformers/utils/modeling/run_layers.h>
#include <transformers/utils/nn/linear_slices.h>
#include <transformers/utils/pytorch_utils.h>

#include <cmath>
#include <limits>

#include "utils/modeling/internal/functional.h"

namespace transformers {

namespace llama {

std::pair<at::Tensor, at::Tensor> apply_rotary_pos_emb(const at::Tensor& query, const at::Tensor& key,
                                                       const RotaryEmbeddings& position_embeddings) {
  const auto& [cos, sin] = position_embeddings;
  auto rotated_query = functional::rotate_halves(query, cos, sin, /*training=*/false);
  return {rotated_query, functional::rotate_halves(key, cos, sin, /*training=*/false)};
}

AttentionResult eager_attention_forward(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                                        const at::Tensor& attention_mask, const AttentionOptions& options) {
  const auto groups = query.size(1) / key.size(1);
  const auto key_states = repeat_kv(key, groups);
  const auto value_states = repeat_kv(value, groups);
  auto weights = at::matmul(query, key_states.transpose(2, 3)) * options.scaling;
  if (attention_mask.defined()) {
    weights = weights + attention_mask;
  }
  if (weights.scalar_type() == at::kHalf) {
    // Scores below the smallest half would make a row of −inf, and its softmax NaN.
    weights = weights.clamp_min(static_cast<double>(std::numeric_limits<at::Half>::lowest()));
  }
  weights = at::softmax(weights, -1, at::kFloat).to(query.scalar_type());
  weights = at::dropout(weights, options.dropout, /*train=*/options.dropout > 0);
  return {at::matmul(weights, value_states), weights};
}

}  // namespace llama

LlamaRMSNormImpl::LlamaRMSNormImpl(int64_t hidden_size, double eps) : variance_epsilon_(eps) {
  LayerNormLayers::add<LlamaRMSNormImpl>();
  const auto& construction = construction_options();
  const auto options = at::TensorOptions().dtype(construction.dtype).device(construction.device);
  weight = register_parameter(
      "weight", construction.initialize ? at::ones({hidden_size}, options) : at::empty({hidden_size}, options));
}

torch::Tensor LlamaRMSNormImpl::forward(const torch::Tensor& hidden_states) {
  return functional::rms_norm(hidden_states, weight, variance_epsilon_, is_training());
}

LlamaRotaryEmbeddingImpl::LlamaRotaryEmbeddingImpl(const LlamaConfig& config)
    : rope_parameters_(config.rope_parameters), sizes_{config.head_size(), config.max_position_embeddings} {
  const auto frequencies = compute_inverse_frequencies(rope_parameters_, sizes_);
  attention_scaling_ = frequencies.attention_factor;
  inv_freq = register_non_persistent_buffer("inv_freq", frequencies.inv_freq);
}

/// The forward keeps no state between calls, because several threads may call one model at the same time.
at::Tensor LlamaRotaryEmbeddingImpl::frequencies(const torch::Tensor& position_ids) const {
  const auto type = rope_parameters_.rope_type;
  if (type != RopeType::kDynamic && type != RopeType::kLongrope) {
    return inv_freq;
  }
  const auto short_length =
      type == RopeType::kDynamic ? sizes_.max_position_embeddings : *rope_parameters_.original_max_position_embeddings;
  const auto seq_len = position_ids.max().item<int64_t>() + 1;
  return seq_len <= short_length ? inv_freq : compute_inverse_frequencies(rope_parameters_, sizes_, seq_len).inv_freq;
}

RotaryEmbeddings LlamaRotaryEmbeddingImpl::at_positions(const torch::Tensor& x, const torch::Tensor& positions,
                                                        const torch::Tensor& position_ids) const {
  const at::NoGradGuard no_grad;
  const auto inverse = frequencies(position_ids).to(x.device());
  const auto freqs = positions.unsqueeze(-1).to(at::kFloat) * inverse;  // [batch, seq, head_dim / 2]
  const auto emb = at::cat({freqs, freqs}, -1);
  return {(emb.cos() * attention_scaling_).to(x.scalar_type()), (emb.sin() * attention_scaling_).to(x.scalar_type())};
}

void LlamaLayerInputs::move_to(c10::Device device) {
  attention_mask = moved(attention_mask, device);
  position_embeddings = moved(position_embeddings, device);
  if (cache_rotary) {
    cache_rotary = moved(*cache_rotary, device);
  }
}

LlamaMLPImpl::LlamaMLPImpl(const LlamaConfig& config, std::optional<int64_t> intermediate_size) {
  const auto hidden = config.hidden_size, intermediate = intermediate_size.value_or(config.intermediate_size);
  gate_proj = register_module("gate_proj", Linear(hidden, intermediate, config.mlp_bias));
  up_proj = register_module("up_proj", Linear(hidden, intermediate, config.mlp_bias));
  down_proj = register_module("down_proj", Linear(intermediate, hidden, config.mlp_bias));
  act_fn = register_module("act_fn", ActivationFunction(config.hidden_act));
  if (config.pretraining_tp > 1) {
    gate_proj->set_method(std::make_shared<RowSlices>(config.pretraining_tp));
    up_proj->set_method(std::make_shared<RowSlices>(config.pretraining_tp));
    down_proj->set_method(std::make_shared<ColumnSlices>(config.pretraining_tp));
  }
}

torch::Tensor LlamaMLPImpl::forward(const torch::Tensor& x) {
  auto gate = gate_proj(x);
  return down_proj(activate_and_mul(act_fn, std::move(gate), up_proj(x)));
}

LlamaAttentionImpl::LlamaAttentionImpl(const LlamaConfig& config, int64_t layer_idx)
    : layer_idx_(layer_idx),
      head_dim_(config.head_size()),
      attention_dropout_(config.attention_dropout),
      is_causal_(config.is_causal) {
  const auto query_size = config.num_heads_left(layer_idx) * head_dim_;
  const auto key_value_size = config.num_key_value_heads_left(layer_idx) * head_dim_;
  q_proj = register_module("q_proj", Linear(config.hidden_size, query_size, config.attention_bias));
  k_proj = register_module("k_proj", Linear(config.hidden_size, key_value_size, config.attention_bias));
  v_proj = register_module("v_proj", Linear(config.hidden_size, key_value_size, config.attention_bias));
  o_proj = register_module("o_proj", Linear(query_size, config.hidden_size, config.attention_bias));
  if (config.pretraining_tp > 1) {
    for (auto* projection : {&q_proj, &k_proj, &v_proj}) {
      (*projection)->set_method(std::make_shared<RowSlices>(config.pretraining_tp));
    }
    o_proj->set_method(std::make_shared<ColumnSlices>(config.pretraining_tp));
  }
}

LayerOutput LlamaAttentionImpl::forward(const torch::Tensor& hidden_states, const LlamaLayerInputs& inputs) {
  auto query = split_heads(q_proj(hidden_states), head_dim_);  // [batch, heads, seq, head_dim]
  auto key = split_heads(k_proj(hidden_states), head_dim_);    // [batch, kv_heads, seq, head_dim]
  auto value = split_heads(v_proj(hidden_states), head_dim_);

  const auto& [cos, sin] = inputs.position_embeddings;
  query = functional::rotate_halves(query, cos, sin, is_training());
  key = functional::rotate_halves(key, cos, sin, is_training());
  // Keys are cached after rotation, so a later step never rotates them twice.
  if (inputs.past_key_values) {
    std::tie(key, value) =
        inputs.past_key_values->update(key, value, layer_idx_, inputs.cache_rotary ? &*inputs.cache_rotary : nullptr);
  }

  const auto [context, weights] =
      attention(inputs.implementation, llama::eager_attention_forward, query, key, value, inputs.attention_mask,
                {.scaling = std::pow(static_cast<double>(head_dim_), -0.5),
                 .dropout = is_training() ? attention_dropout_ : 0.0,
                 .is_causal = is_causal_});
  return {o_proj(merge_heads(context)), weights};
}

LlamaDecoderLayerImpl::LlamaDecoderLayerImpl(const LlamaConfig& config, int64_t layer_idx) {
  self_attn = register_module("self_attn", LlamaAttention(config, layer_idx));
  mlp = register_module("mlp", LlamaMLP(config, config.intermediate_size_left(layer_idx)));
  input_layernorm = register_module("input_layernorm", LlamaRMSNorm(config.hidden_size, config.rms_norm_eps));
  post_attention_layernorm =
      register_module("post_attention_layernorm", LlamaRMSNorm(config.hidden_size, config.rms_norm_eps));
}

LayerOutput LlamaDecoderLayerImpl::forward(const torch::Tensor& hidden_states, const LlamaLayerInputs& inputs) {
  const auto [attn_output, attentions] = self_attn(input_layernorm(hidden_states), inputs);
  const auto residual = hidden_states + attn_output;
  return {residual + mlp(post_attention_layernorm(residual)), attentions};
}

LlamaModelImpl::LlamaModelImpl(const LlamaConfig& config) : config_(config) {
  config_.validate();
  build([&] {
    embed_tokens =
        register_module("embed_tokens", Embedding(config.vocab_size, config.hidden_size, config.pad_token_id));
    layers = register_module("layers", torch::nn::ModuleList());
    for (int64_t i = 0; i < config.num_hidden_layers; ++i) {
      layers->push_back(LlamaDecoderLayer(config, i));
    }
    norm = register_module("norm", LlamaRMSNorm(config.hidden_size, config.rms_norm_eps));
    rotary_emb = register_module("rotary_emb", LlamaRotaryEmbedding(config));
  });
}

std::optional<RotaryEmbeddings> LlamaModelImpl::cache_rotary(const at::Tensor& hidden_states,
                                                             const ForwardPlan& plan) const {
  const auto positions = plan.past_key_values ? plan.past_key_values->rotary_positions() : 0;
  if (positions == 0) {
    return std::nullopt;
  }
  const auto ids = at::arange(positions, plan.position_ids.options()).unsqueeze(0);
  const auto table = rotary_emb->at_positions(hidden_states, ids, plan.position_ids);
  return RotaryEmbeddings{table.cos.squeeze(0), table.sin.squeeze(0)};
}

BaseModelOutputWithPast LlamaModelImpl::forward(const ModelInputs& given) {
  const auto inputs = without_cache_when_checkpointing(given);
  check_model_inputs(inputs, config_);
  TORCH_CHECK(!inputs.token_type_ids.defined(), "LLaMA takes no token_type_ids");
  TORCH_CHECK(!inputs.head_mask.defined(), "LLaMA takes no head_mask");
  auto hidden_states = inputs.inputs_embeds.defined() ? inputs.inputs_embeds : embed_tokens(inputs.input_ids);
  const auto plan = plan_forward(inputs, hidden_states, config_);

  LlamaLayerInputs layer_inputs{.implementation = plan.implementation,
                                .attention_mask = plan.attention_mask,
                                .position_embeddings = rotary_emb(hidden_states, plan.position_ids),
                                .past_key_values = plan.past_key_values,
                                .cache_rotary = cache_rotary(hidden_states, plan)};
  auto outputs = run_layers<LlamaDecoderLayer>(*this, layers, std::move(hidden_states), std::move(layer_inputs), plan);
  if (runs_last_block()) {
    outputs.last_hidden_state = norm(outputs.last_hidden_state);
  }
  plan.add_hidden_state(outputs, outputs.last_hidden_state, plan.num_hidden_layers);
  return outputs;
}

void LlamaModelImpl::set_input_embeddings(Embedding embeddings) {
  embed_tokens = replace_module("embed_tokens", std::move(embeddings));
}

ModelStructure LlamaModelImpl::structure() {
  ModelStructure structure;
  for (size_t i = 0; i < layers->size(); ++i) {
    const auto layer = layers->ptr<LlamaDecoderLayerImpl>(i);
    const auto& attention = layer->self_attn;
    const auto& mlp = layer->mlp;
    structure.layers.push_back({.block = layer,
                                .query = attention->q_proj,
                                .key = attention->k_proj,
                                .value = attention->v_proj,
                                .attention_output = attention->o_proj,
                                .mlp_inputs = {mlp->gate_proj, mlp->up_proj},
                                .mlp_output = mlp->down_proj});
    structure.norms.push_back(layer->input_layernorm.ptr());
    structure.norms.push_back(layer->post_attention_layernorm.ptr());
  }
  structure.norms.push_back(norm.ptr());
  return structure;
}

void LlamaModelImpl::select_layers(const std::vector<int64_t>& kept) {
  layers = replace_module("layers", selected_layers<LlamaDecoderLayer>(layers, kept));
}

LlamaForCausalLMImpl::LlamaForCausalLMImpl(const LlamaConfig& config) {
  build([&] {
    model = register_module("model", LlamaModel(config));
    lm_head = register_module("lm_head", Linear(config.hidden_size, config.vocab_size, /*bias=*/false));
    if (config.pretraining_tp > 1) {
      lm_head->set_method(std::make_shared<RowSlices>(config.pretraining_tp));
    }
  });
  generation_config = GenerationConfig::from_model_config(config);
}

CausalLMOutputWithPast LlamaForCausalLMImpl::forward(const ModelInputs& inputs, const CausalLMOptions& options) {
  return causal_lm_output(model(inputs), lm_head, options);
}

void LlamaForCausalLMImpl::set_output_embeddings(Linear embeddings) {
  lm_head = replace_module("lm_head", std::move(embeddings));
}

LlamaForSequenceClassificationImpl::LlamaForSequenceClassificationImpl(const LlamaConfig& config)
    : CloneableModel([&] { return LlamaModel(config).ptr(); }, "model") {}

LlamaForQuestionAnsweringImpl::LlamaForQuestionAnsweringImpl(const LlamaConfig& config)
    : CloneableModel([&] { return LlamaModel(config).ptr(); }, "transformer") {}

LlamaForTokenClassificationImpl::LlamaForTokenClassificationImpl(const LlamaConfig& config)
    : CloneableModel([&] { return LlamaModel(config).ptr(); }, "model") {}

}  // namespace transformers
