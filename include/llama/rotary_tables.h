#pragma once

#include <transformers/export.h>
#include <transformers/utils/modeling/rope.h>
#include <transformers/utils/nn/module.h>

#include <mutex>
#include <utility>

namespace TRANSFORMERS_API transformers {

// The rotary classes of transformers 4.x, for code that was written for them: tables of cos and sin for positions from
// 0 on. `LlamaModel` uses `LlamaRotaryEmbedding` instead, which computes the angles of each call. Mirrors
// models/llama/modeling_llama.py, transformers 4.37.2; tables are fp32 in every cast.

/// HF 4.37's `LlamaRotaryEmbedding`, and the base of the other two.
class LlamaRotaryTableImpl : public Module {
 public:
  explicit LlamaRotaryTableImpl(int64_t dim, int64_t max_position_embeddings = 2048, double base = 10000,
                                torch::Device device = torch::kCPU);

  /// cos and sin of positions 0 to seq_len − 1, [seq_len, dim], in x's dtype and on its device. The table grows to the
  /// longest requested length and never shrinks, as in 4.37. Thread-safe.
  RotaryEmbeddings forward(const torch::Tensor& x, int64_t seq_len);

  torch::Tensor inv_freq;                // fp32 [dim / 2]
  torch::Tensor cos_cached, sin_cached;  // fp32 [max_seq_len_cached, dim]
  int64_t max_seq_len_cached = 0;

 protected:
  LlamaRotaryTableImpl(RopeParameters parameters, RopeSizes sizes, torch::Device device);

 private:
  void set_cos_sin_cache(int64_t seq_len);

  RopeParameters parameters_;
  RopeSizes sizes_;
  std::mutex growing_;
};
TRANSFORMERS_MODULE(LlamaRotaryTable);

/// Divides positions by `scaling_factor`.
class LlamaLinearScalingRotaryEmbeddingImpl : public LlamaRotaryTableImpl {
 public:
  explicit LlamaLinearScalingRotaryEmbeddingImpl(int64_t dim, int64_t max_position_embeddings = 2048,
                                                 double base = 10000, torch::Device device = torch::kCPU,
                                                 double scaling_factor = 1.0);
};
TRANSFORMERS_MODULE(LlamaLinearScalingRotaryEmbedding);

/// The base grows with the longest length beyond max_position_embeddings, and never shrinks again.
class LlamaDynamicNTKScalingRotaryEmbeddingImpl : public LlamaRotaryTableImpl {
 public:
  explicit LlamaDynamicNTKScalingRotaryEmbeddingImpl(int64_t dim, int64_t max_position_embeddings = 2048,
                                                     double base = 10000, torch::Device device = torch::kCPU,
                                                     double scaling_factor = 1.0);
};
TRANSFORMERS_MODULE(LlamaDynamicNTKScalingRotaryEmbedding);

namespace llama {
/// 4.37's `apply_rotary_pos_emb`: picks the tables' rows by position. query, key: [batch, heads, seq, dim] with
/// unsqueeze_dim 1, [batch, seq, heads, dim] with 2; cos, sin: [positions, dim]; position_ids: int64 [batch, seq].
std::pair<at::Tensor, at::Tensor> apply_rotary_pos_emb(const at::Tensor& query, const at::Tensor& key,
                                                       const RotaryEmbeddings& tables, const at::Tensor& position_ids,
                                                       int64_t unsqueeze_dim = 1);
}  // namespace llama

}  // namespace transformers
