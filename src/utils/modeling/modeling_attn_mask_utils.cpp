// Mirrors modeling_attn_mask_utils.py, transformers 4.37.2.
#include <ATen/ATen.h>
#include <transformers/utils/modeling/modeling_attn_mask_utils.h>

#include "utils/modeling/smallest_value.h"

namespace transformers {
namespace {

/// 1 − mask, with the smallest value wherever that is not 0.
at::Tensor inverted(const at::Tensor& mask, at::ScalarType dtype) {
  const auto hidden = 1.0 - mask.to(dtype);
  return hidden.masked_fill(hidden.to(at::kBool), smallest_value(dtype));
}

at::Tensor inverted_4d(const at::Tensor& mask, at::IntArrayRef expected, at::ScalarType dtype) {
  TORCH_CHECK(mask.sizes() == expected, "a 4-D attention_mask must have shape ", expected, ", got ", mask.sizes());
  return inverted(mask, dtype);
}

void check_mask_rank(const at::Tensor& mask) {
  TORCH_CHECK(mask.dim() == 2 || mask.dim() == 4, "attention_mask must have 2 or 4 dimensions, got ", mask.dim());
}

bool hides_nothing(const at::Tensor& mask) { return mask.eq(1).all().item<bool>(); }

}  // namespace

AttentionMaskConverter::AttentionMaskConverter(bool is_causal, std::optional<int64_t> sliding_window)
    : is_causal_(is_causal), sliding_window_(sliding_window) {
  TORCH_CHECK(sliding_window.value_or(1) > 0, "AttentionMaskConverter: sliding_window must be above 0, got ",
              sliding_window.value_or(1));
}

at::Tensor AttentionMaskConverter::to_causal_4d(int64_t batch_size, int64_t query_length, int64_t key_value_length,
                                                at::ScalarType dtype, at::Device device) const {
  TORCH_CHECK(is_causal_, "AttentionMaskConverter: to_causal_4d needs a causal converter");
  if (query_length == 1 && !sliding_window_) {
    return {};
  }
  return make_causal_mask(batch_size, query_length, dtype, device, key_value_length - query_length, sliding_window_);
}

at::Tensor AttentionMaskConverter::to_4d(const at::Tensor& attention_mask_2d, int64_t query_length,
                                         at::ScalarType dtype, std::optional<int64_t> key_value_length) const {
  TORCH_CHECK(is_causal_ || !sliding_window_, "AttentionMaskConverter: a sliding window needs a causal converter");
  const auto expanded = expand_mask(attention_mask_2d, dtype, query_length);
  if (!is_causal_ || (query_length == 1 && !sliding_window_)) {
    return expanded;
  }
  TORCH_CHECK(key_value_length, "AttentionMaskConverter: a causal converter needs key_value_length");
  const auto causal =
      to_causal_4d(attention_mask_2d.size(0), query_length, *key_value_length, dtype, attention_mask_2d.device());
  TORCH_CHECK(attention_mask_2d.size(1) == *key_value_length, "attention_mask must cover ", *key_value_length,
              " keys, got ", attention_mask_2d.size(1));
  return causal.masked_fill(expanded.to(at::kBool), smallest_value(dtype));
}

at::Tensor AttentionMaskConverter::make_causal_mask(int64_t batch_size, int64_t target_length, at::ScalarType dtype,
                                                    at::Device device, int64_t past_key_values_length,
                                                    std::optional<int64_t> sliding_window) {
  TORCH_CHECK(past_key_values_length >= 0, "past_key_values_length must not be negative, got ", past_key_values_length);
  const auto key_length = past_key_values_length + target_length;
  auto sees = at::ones({target_length, key_length}, at::TensorOptions().dtype(at::kBool).device(device))
                  .tril(past_key_values_length);
  if (sliding_window) {
    sees = sees.triu(past_key_values_length - *sliding_window + 1);
  }
  return at::zeros({target_length, key_length}, at::TensorOptions().dtype(dtype).device(device))
      .masked_fill_(sees.logical_not(), smallest_value(dtype))
      .expand({batch_size, 1, target_length, key_length});
}

at::Tensor AttentionMaskConverter::expand_mask(const at::Tensor& mask, at::ScalarType dtype,
                                               std::optional<int64_t> target_length) {
  TORCH_CHECK(mask.dim() == 2, "attention_mask must have shape [batch, key], got ", mask.sizes());
  const auto batch = mask.size(0), source = mask.size(1);
  return inverted(mask.unsqueeze(1).unsqueeze(1).expand({batch, 1, target_length.value_or(source), source}), dtype);
}

at::Tensor AttentionMaskConverter::unmask_unattended(const at::Tensor& expanded_mask, const at::Tensor& attention_mask,
                                                     double unmasked_value) {
  const auto first_attended = attention_mask.ne(0).to(at::kInt).argmax(1);  // [batch]; 0 for an empty row
  const auto query = at::arange(expanded_mask.size(-2), first_attended.options());
  auto opened = query.unsqueeze(0).lt(first_attended.unsqueeze(1)).unsqueeze(-1);  // [batch, query, 1]
  if (expanded_mask.dim() == 4) {
    opened = opened.unsqueeze(1);
  }
  return expanded_mask.masked_fill(opened, unmasked_value);
}

at::Tensor prepare_4d_causal_attention_mask(const at::Tensor& attention_mask, std::array<int64_t, 2> input_shape,
                                            const at::Tensor& inputs_embeds, int64_t past_key_values_length,
                                            std::optional<int64_t> sliding_window) {
  const AttentionMaskConverter converter(true, sliding_window);
  const auto [batch, query] = input_shape;
  const auto key = query + past_key_values_length;
  const auto dtype = inputs_embeds.scalar_type();
  if (!attention_mask.defined()) {
    return converter.to_causal_4d(batch, query, key, dtype, inputs_embeds.device());
  }
  check_mask_rank(attention_mask);
  return attention_mask.dim() == 4 ? inverted_4d(attention_mask, {batch, 1, query, key}, dtype)
                                   : converter.to_4d(attention_mask, query, dtype, key);
}

at::Tensor prepare_4d_causal_attention_mask_for_sdpa(const at::Tensor& attention_mask,
                                                     std::array<int64_t, 2> input_shape,
                                                     const at::Tensor& inputs_embeds, int64_t past_key_values_length,
                                                     std::optional<int64_t> sliding_window) {
  const auto query = input_shape[1];
  const bool causality_is_enough = query == 1 || past_key_values_length == 0;
  const bool is_4d = attention_mask.defined() && attention_mask.dim() == 4;
  if (causality_is_enough && !is_4d && (!attention_mask.defined() || hides_nothing(attention_mask))) {
    return {};
  }
  const auto expanded = prepare_4d_causal_attention_mask(attention_mask, input_shape, inputs_embeds,
                                                         past_key_values_length, sliding_window);
  return attention_mask.defined() && !is_4d && query > 1
             ? AttentionMaskConverter::unmask_unattended(expanded, attention_mask, 0.0)
             : expanded;
}

at::Tensor prepare_4d_attention_mask(const at::Tensor& mask, at::ScalarType dtype,
                                     std::optional<int64_t> target_length) {
  return AttentionMaskConverter::expand_mask(mask, dtype, target_length);
}

at::Tensor prepare_4d_attention_mask_for_sdpa(const at::Tensor& mask, at::ScalarType dtype,
                                              std::optional<int64_t> target_length) {
  TORCH_CHECK(mask.dim() == 2, "attention_mask must have shape [batch, key], got ", mask.sizes());
  const auto target = target_length.value_or(mask.size(1));
  const bool needs_no_mask = target == 1 || target == mask.size(1);
  return needs_no_mask && hides_nothing(mask) ? at::Tensor()
                                              : AttentionMaskConverter::expand_mask(mask, dtype, target_length);
}

at::Tensor create_4d_causal_attention_mask(std::array<int64_t, 2> input_shape, at::ScalarType dtype, at::Device device,
                                           int64_t past_key_values_length, std::optional<int64_t> sliding_window) {
  const auto [batch, query] = input_shape;
  return AttentionMaskConverter(true, sliding_window)
      .to_causal_4d(batch, query, query + past_key_values_length, dtype, device);
}

}  // namespace transformers
