#pragma once

#include <ATen/core/Tensor.h>
#include <transformers/export.h>

#include <array>
#include <cstdint>
#include <optional>

namespace TRANSFORMERS_API transformers {

// The masks of transformers 4.x, for code that was written for them; the models use masking.h. Mirrors
// modeling_attn_mask_utils.py, transformers 4.37.2. All results are additive: 0, or the smallest value of their dtype.

/// Turns sizes or 2-D masks into 4-D masks. With a window of w, a token attends to itself and the w − 1 tokens before
/// it.
class AttentionMaskConverter {
 public:
  /// Throws on a window below 1.
  explicit AttentionMaskConverter(bool is_causal, std::optional<int64_t> sliding_window = std::nullopt);

  /// [batch, 1, query, key]; undefined for one query token without a window. Throws when not causal.
  at::Tensor to_causal_4d(int64_t batch_size, int64_t query_length, int64_t key_value_length, at::ScalarType dtype,
                          at::Device device = at::kCPU) const;

  /// Combines a mask [batch, key] (1 = attend, anything else is hidden) with causality into [batch, 1, query, key]; the
  /// smallest value is never added twice. A causal converter needs `key_value_length` for several query tokens; a
  /// window needs a causal one.
  at::Tensor to_4d(const at::Tensor& attention_mask_2d, int64_t query_length, at::ScalarType dtype,
                   std::optional<int64_t> key_value_length = std::nullopt) const;

  /// HF's `_make_causal_mask`: [batch, 1, target, past + target].
  static at::Tensor make_causal_mask(int64_t batch_size, int64_t target_length, at::ScalarType dtype, at::Device device,
                                     int64_t past_key_values_length = 0,
                                     std::optional<int64_t> sliding_window = std::nullopt);
  /// HF's `_expand_mask`: mask [batch, source] → [batch, 1, target or source, source].
  static at::Tensor expand_mask(const at::Tensor& mask, at::ScalarType dtype,
                                std::optional<int64_t> target_length = std::nullopt);
  /// HF's `_unmask_unattended`: rows of queries before the first attended column attend to everything. expanded_mask:
  /// [batch, masks, query, key] or [batch, query, key]; attention_mask: [batch, key]. Rows beyond the queries are
  /// skipped, where 4.37 reads out of bounds.
  static at::Tensor unmask_unattended(const at::Tensor& expanded_mask, const at::Tensor& attention_mask,
                                      double unmasked_value);

 private:
  bool is_causal_;
  std::optional<int64_t> sliding_window_;
};

/// HF's `_prepare_4d_causal_attention_mask`. attention_mask: undefined, [batch, key] or [batch, 1, query, key] of 0 and
/// 1; input_shape: batch and query; inputs_embeds gives dtype and device.
at::Tensor prepare_4d_causal_attention_mask(const at::Tensor& attention_mask, std::array<int64_t, 2> input_shape,
                                            const at::Tensor& inputs_embeds, int64_t past_key_values_length,
                                            std::optional<int64_t> sliding_window = std::nullopt);
/// The same for fused attention: undefined where the kernel's own causality is enough, and no query row without any
/// key.
at::Tensor prepare_4d_causal_attention_mask_for_sdpa(const at::Tensor& attention_mask,
                                                     std::array<int64_t, 2> input_shape,
                                                     const at::Tensor& inputs_embeds, int64_t past_key_values_length,
                                                     std::optional<int64_t> sliding_window = std::nullopt);

/// HF's `_prepare_4d_attention_mask`, not causal. mask: [batch, key]; returns [batch, 1, target or key, key].
at::Tensor prepare_4d_attention_mask(const at::Tensor& mask, at::ScalarType dtype,
                                     std::optional<int64_t> target_length = std::nullopt);
/// The same for fused attention: undefined where nothing is hidden and target and key agree or target is 1.
at::Tensor prepare_4d_attention_mask_for_sdpa(const at::Tensor& mask, at::ScalarType dtype,
                                              std::optional<int64_t> target_length = std::nullopt);

/// HF's `_create_4d_causal_attention_mask`; undefined for one token without a window.
at::Tensor create_4d_causal_attention_mask(std::array<int64_t, 2> input_shape, at::ScalarType dtype, at::Device device,
                                           int64_t past_key_values_length = 0,
                                           std::optional<int64_t> sliding_window = std::nullopt);

}  // namespace transformers
