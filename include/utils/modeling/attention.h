#pragma once

#include <ATen/core/Tensor.h>
#include <transformers/export.h>
#include <transformers/utils/configuration/attn_implementation.h>

#include <functional>
#include <string>
#include <string_view>

namespace TRANSFORMERS_API transformers {

/// The kernel that a forward uses: eager when attention weights are wanted, otherwise sdpa in place of `kAuto`.
AttnImplementation resolve_attn_implementation(AttnImplementation implementation, bool weights_wanted);

struct AttentionOptions {
  double scaling;         // multiplies the scores
  double dropout = 0;     // applied to the weights
  bool is_causal = true;  // what an undefined mask means outside eager
};

struct AttentionResult {
  at::Tensor output{};   // [batch, heads, query, head_dim]
  at::Tensor weights{};  // [batch, heads, query, key]; eager only, otherwise undefined
};

/// A family's own eager attention; its arguments are those of `attention`.
using EagerAttention =
    std::function<AttentionResult(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                                  const at::Tensor& mask, const AttentionOptions& options)>;

/// Attention by the named kernel. query: [batch, heads, query, head_dim]; key, value: [batch, kv_heads, key, head_dim]
/// where kv_heads divides heads; only eager expands grouped heads. mask, as `create_causal_mask` makes it: undefined
/// (plain causality; in eager nothing is hidden), additive floating or bool with true = attend, [batch or 1, heads or
/// 1, query, key]; for flash [batch, filled], over the first keys. `implementation` must be resolved.
AttentionResult attention(AttnImplementation implementation, const EagerAttention& eager, const at::Tensor& query,
                          const at::Tensor& key, const at::Tensor& value, const at::Tensor& mask,
                          const AttentionOptions& options);

/// [batch, seq, heads · head_dim] → [batch, heads, seq, head_dim], a view.
at::Tensor split_heads(const at::Tensor& tensor, int64_t head_dim);
/// [batch, heads, seq, head_dim] → [batch, seq, heads · head_dim].
at::Tensor merge_heads(const at::Tensor& tensor);

/// Repeats each key/value head `repeats` times in a row: [batch, kv_heads · repeats, seq, head_dim]. Returns the same
/// tensor for 1.
at::Tensor repeat_kv(const at::Tensor& tensor, int64_t repeats);

/// The positions of the attended tokens in a padded batch. Mirrors `_get_unpad_data`, transformers 4.37.2.
struct UnpadData {
  at::Tensor indices{};     // int64 [tokens]: flat positions of the ones
  at::Tensor cu_seqlens{};  // int32 [batch + 1]: starts of the rows in the packed tokens
  int64_t max_seqlen = 0;   // the longest row
};
/// mask: [batch, seq], nonzero = attend.
UnpadData get_unpad_data(const at::Tensor& mask);
/// [batch, seq, ...] → [tokens, ...].
at::Tensor unpad(const at::Tensor& tensor, const at::Tensor& indices);
/// [tokens, ...] → [batch, seq, ...]; zeros where there was padding.
at::Tensor repad(const at::Tensor& tensor, const at::Tensor& indices, int64_t batch, int64_t seq);

}  // namespace transformers
