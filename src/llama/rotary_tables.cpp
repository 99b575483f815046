// Mirrors the rotary classes of models/llama/modeling_llama.py, transformers 4.37.2. Deviation: tables stay fp32, where
// 4.37 builds them in the default dtype.
#include <ATen/ATen.h>
#include <transformers/llama/rotary_tables.h>

namespace transformers {
namespace {

RopeParameters parameters_of(RopeType type, double base, double scaling_factor) {
  RopeParameters parameters;
  parameters.rope_type = type;
  parameters.rope_theta = base;
  parameters.factor = scaling_factor;
  return parameters;
}

}  // namespace

LlamaRotaryTableImpl::LlamaRotaryTableImpl(RopeParameters parameters, RopeSizes sizes, torch::Device device)
    : parameters_(std::move(parameters)), sizes_(sizes) {
  parameters_.validate(sizes.head_dim);
  TORCH_CHECK(sizes.max_position_embeddings > 0, "max_position_embeddings must be above 0, got ",
              sizes.max_position_embeddings);
  const auto empty = at::empty({0}, at::TensorOptions().dtype(at::kFloat).device(device));
  inv_freq = register_non_persistent_buffer("inv_freq", empty);
  cos_cached = register_non_persistent_buffer("cos_cached", empty.clone());
  sin_cached = register_non_persistent_buffer("sin_cached", empty.clone());
  set_cos_sin_cache(sizes.max_position_embeddings);
}

LlamaRotaryTableImpl::LlamaRotaryTableImpl(int64_t dim, int64_t max_position_embeddings, double base,
                                           torch::Device device)
    : LlamaRotaryTableImpl(parameters_of(RopeType::kDefault, base, 1.0), {dim, max_position_embeddings}, device) {}

void LlamaRotaryTableImpl::set_cos_sin_cache(int64_t seq_len) {
  const bool is_linear = parameters_.rope_type == RopeType::kLinear;
  auto frequencies = parameters_;
  if (is_linear) {
    frequencies.rope_type = RopeType::kDefault;
  }
  const auto device = inv_freq.device();
  inv_freq.set_data(compute_inverse_frequencies(frequencies, sizes_, seq_len).inv_freq.to(device));
  auto positions = at::arange(seq_len, at::kLong).to(device, at::kFloat);
  if (is_linear) {
    positions = positions / *parameters_.factor;
  }
  const auto freqs = at::outer(positions, inv_freq);
  const auto emb = at::cat({freqs, freqs}, -1);
  cos_cached.set_data(emb.cos());
  sin_cached.set_data(emb.sin());
  max_seq_len_cached = seq_len;
}

RotaryEmbeddings LlamaRotaryTableImpl::forward(const torch::Tensor& x, int64_t seq_len) {
  TORCH_CHECK(seq_len > 0, "seq_len must be above 0, got ", seq_len);
  const std::lock_guard lock(growing_);
  if (seq_len > max_seq_len_cached) {
    set_cos_sin_cache(seq_len);
  }
  const auto first = [&](const at::Tensor& table) {
    return table.narrow(0, 0, seq_len).to(x.device(), x.scalar_type());
  };
  return {.cos = first(cos_cached), .sin = first(sin_cached)};
}

LlamaLinearScalingRotaryEmbeddingImpl::LlamaLinearScalingRotaryEmbeddingImpl(int64_t dim,
                                                                             int64_t max_position_embeddings,
                                                                             double base, torch::Device device,
                                                                             double scaling_factor)
    : LlamaRotaryTableImpl(parameters_of(RopeType::kLinear, base, scaling_factor), {dim, max_position_embeddings},
                           device) {}

LlamaDynamicNTKScalingRotaryEmbeddingImpl::LlamaDynamicNTKScalingRotaryEmbeddingImpl(int64_t dim,
                                                                                     int64_t max_position_embeddings,
                                                                                     double base, torch::Device device,
                                                                                     double scaling_factor)
    : LlamaRotaryTableImpl(parameters_of(RopeType::kDynamic, base, scaling_factor), {dim, max_position_embeddings},
                           device) {}

namespace llama {

std::pair<at::Tensor, at::Tensor> apply_rotary_pos_emb(const at::Tensor& query, const at::Tensor& key,
                                                       const RotaryEmbeddings& tables, const at::Tensor& position_ids,
                                                       int64_t unsqueeze_dim) {
  const auto rows = [&](const at::Tensor& table) { return table.index({position_ids}).unsqueeze(unsqueeze_dim); };
  const auto cos = rows(tables.cos), sin = rows(tables.sin);
  return {query * cos + rotate_half(query) * sin, key * cos + rotate_half(key) * sin};
}

}  // namespace llama

}  // namespace transformers
