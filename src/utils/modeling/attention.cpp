// Mirrors integrations/sdpa_attention.py (transformers 5.23.0) and the unpadding of modeling_llama.py (4.37.2).
#include <ATen/ATen.h>
#include <ATen/ops/_flash_attention_forward.h>
#include <transformers/utils/modeling/attention.h>

#include <utility>

namespace transformers {
namespace {

at::Tensor in_dtype_of(const at::Tensor& mask, const at::Tensor& query) {
  return mask.defined() && mask.is_floating_point() ? mask.to(query.scalar_type()) : mask;
}

std::optional<at::Tensor> optional(const at::Tensor& tensor) {
  return tensor.defined() ? std::make_optional(tensor) : std::nullopt;
}

/// Attention for one query token. The heads of a group become the query rows of their key/value head. The fused kernel
/// takes them without expanding keys and values, and is many times faster than with its own grouping.
at::Tensor grouped_single_token(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                                const at::Tensor& mask, const AttentionOptions& options) {
  const auto batch = query.size(0), heads = query.size(1), head_dim = query.size(3);
  const auto kv_heads = key.size(1), group = heads / kv_heads;
  const auto grouped_query = query.reshape({batch, kv_heads, group, head_dim});
  auto grouped_mask = in_dtype_of(mask, query);
  if (mask.defined() && mask.size(1) != 1) {
    grouped_mask = grouped_mask.reshape({mask.size(0), kv_heads, group, mask.size(3)});
  }
  return at::scaled_dot_product_attention(grouped_query, key, value, optional(grouped_mask), options.dropout,
                                          /*is_causal=*/false, options.scaling)
      .reshape({batch, heads, 1, value.size(3)});
}

at::Tensor sdpa(const at::Tensor& query, at::Tensor key, at::Tensor value, const at::Tensor& mask,
                const AttentionOptions& options) {
  const auto query_length = query.size(2);
  const bool grouped = query.size(1) != key.size(1);
  if (grouped && query_length == 1) {
    return grouped_single_token(query, key, value, mask, options);
  }
  const bool is_causal = options.is_causal && query_length > 1 && !mask.defined();
  if (is_causal && key.size(2) > query_length) {
    // In an empty static cache the part after the query is not filled yet.
    key = key.narrow(2, 0, query_length);
    value = value.narrow(2, 0, query_length);
  }
  return at::scaled_dot_product_attention(query, key, value, optional(in_dtype_of(mask, query)), options.dropout,
                                          is_causal, options.scaling, grouped);
}

/// [tokens, heads, head_dim] of one row → [1, heads, tokens, head_dim].
at::Tensor row(const at::Tensor& packed, const at::Tensor& cu_seqlens, int64_t index) {
  const auto begin = cu_seqlens[index].item<int64_t>();
  const auto end = cu_seqlens[index + 1].item<int64_t>();
  return packed.slice(0, begin, end).transpose(0, 1).unsqueeze(0);
}

/// Packed tokens, [tokens, heads, head_dim], and the rows they belong to.
struct PackedTokens {
  at::Tensor query, key, value;
  const UnpadData &query_data, &key_data;
};

/// Causal attention inside each row of packed tokens, aligned to the row's end.
at::Tensor varlen_attention(const PackedTokens& tokens, const AttentionOptions& options) {
  const auto& [query, key, value, query_data, key_data] = tokens;
  if (query.is_cuda() && at::isReducedFloatingType(query.scalar_type())) {  // the kernel takes no other dtype
    return std::get<0>(at::_flash_attention_forward(query, key, value, query_data.cu_seqlens, key_data.cu_seqlens,
                                                    query_data.max_seqlen, key_data.max_seqlen, options.dropout,
                                                    /*is_causal=*/true, /*return_debug_mask=*/false, options.scaling));
  }
  std::vector<at::Tensor> rows;
  for (int64_t i = 0; i + 1 < query_data.cu_seqlens.size(0); ++i) {
    const auto q = row(query, query_data.cu_seqlens, i);
    const auto k = row(key, key_data.cu_seqlens, i);
    if (q.size(2) == 0) {
      continue;
    }
    const auto past = k.size(2) - q.size(2);
    const auto mask =
        past == 0 ? at::Tensor() : at::ones({1, 1, q.size(2), k.size(2)}, q.options().dtype(at::kBool)).tril(past);
    rows.push_back(sdpa(q, k, row(value, key_data.cu_seqlens, i), mask, options).squeeze(0).transpose(0, 1));
  }
  return rows.empty() ? at::empty_like(query) : at::cat(rows);
}

/// Describes packed rows in which each text is a sequence of its own. texts: [batch, seq], the number of each token's
/// text in its row.
UnpadData packed_data(const at::Tensor& texts) {
  const auto tokens = texts.numel();
  auto begins = at::ones({texts.size(0), texts.size(1)}, texts.options().dtype(at::kBool));
  begins.narrow(1, 1, texts.size(1) - 1).copy_(at::diff(texts, 1, 1).ne(0));
  const auto starts = begins.flatten().nonzero().flatten().to(at::kInt);
  const auto cu_seqlens = at::constant_pad_nd(starts, {0, 1}, static_cast<double>(tokens));
  return {at::arange(tokens, texts.options().dtype(at::kLong)), cu_seqlens, at::diff(cu_seqlens).max().item<int64_t>()};
}

/// If there are fewer queries than keys, left padding is assumed, as in HF: the queries are the last columns of the
/// mask. Keys after the mask's columns are the unfilled part of a static cache.
at::Tensor flash(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value, const at::Tensor& mask,
                 const AttentionOptions& options) {
  const auto batch = query.size(0), query_length = query.size(2);
  if (!mask.defined()) {
    return sdpa(query, key, value, mask, options);
  }
  const auto packed = [](const at::Tensor& tensor, const at::Tensor& indices) {
    return unpad(tensor.transpose(1, 2), indices);
  };
  if (mask.dim() == 3) {
    const auto data = packed_data(mask.squeeze(1));
    const auto output = varlen_attention({.query = packed(query, data.indices),
                                          .key = packed(key, data.indices),
                                          .value = packed(value, data.indices),
                                          .query_data = data,
                                          .key_data = data},
                                         options);
    return repad(output, data.indices, batch, query_length).transpose(1, 2);
  }
  TORCH_CHECK(mask.dim() == 2, "flash attention takes a 2-D mask [batch, key], the numbers of packed texts ",
              "[batch, 1, seq], or none, got ", mask.dim(), " dimensions");
  const auto filled = mask.size(1);
  TORCH_CHECK(query_length <= filled && filled <= key.size(2), "flash attention's mask must cover the ", query_length,
              " queries and at most the ", key.size(2), " keys, got ", filled, " columns");
  const auto key_data = get_unpad_data(mask);
  const auto query_data = get_unpad_data(mask.narrow(1, filled - query_length, query_length));
  const auto packed_keys = [&](const at::Tensor& tensor) {
    return packed(tensor.narrow(2, 0, filled), key_data.indices);
  };
  const auto output = varlen_attention({.query = packed(query, query_data.indices),
                                        .key = packed_keys(key),
                                        .value = packed_keys(value),
                                        .query_data = query_data,
                                        .key_data = key_data},
                                       options);
  return repad(output, query_data.indices, batch, query_length).transpose(1, 2);
}

}  // namespace

AttnImplementation resolve_attn_implementation(AttnImplementation implementation, bool weights_wanted) {
  if (weights_wanted) {
    return AttnImplementation::kEager;
  }
  return implementation == AttnImplementation::kAuto ? AttnImplementation::kSdpa : implementation;
}

AttentionResult attention(AttnImplementation implementation, const EagerAttention& eager, const at::Tensor& query,
                          const at::Tensor& key, const at::Tensor& value, const at::Tensor& mask,
                          const AttentionOptions& options) {
  switch (implementation) {
    case AttnImplementation::kEager:
      return eager(query, key, value, mask, options);
    case AttnImplementation::kSdpa:
      return {sdpa(query, key, value, mask, options), {}};
    case AttnImplementation::kFlash:
      return {flash(query, key, value, mask, options), {}};
    case AttnImplementation::kAuto:
      break;
  }
  TORCH_INTERNAL_ASSERT(false, "attention implementation was not resolved");
}

at::Tensor split_heads(const at::Tensor& tensor, int64_t head_dim) {
  return tensor.unflatten(-1, {-1, head_dim}).transpose(1, 2);
}

at::Tensor merge_heads(const at::Tensor& tensor) { return tensor.transpose(1, 2).flatten(2); }

at::Tensor repeat_kv(const at::Tensor& tensor, int64_t repeats) {
  if (repeats == 1) {
    return tensor;
  }
  const auto batch = tensor.size(0), kv_heads = tensor.size(1), length = tensor.size(2), head_dim = tensor.size(3);
  return tensor.unsqueeze(2)
      .expand({batch, kv_heads, repeats, length, head_dim})
      .reshape({batch, kv_heads * repeats, length, head_dim});
}

UnpadData get_unpad_data(const at::Tensor& mask) {
  const auto lengths = mask.ne(0).sum(-1, /*keepdim=*/false, at::kInt);
  const auto ends = lengths.cumsum(0, at::kInt);
  return {mask.flatten().nonzero().flatten(), at::constant_pad_nd(ends, {1, 0}, 0),
          lengths.numel() == 0 ? 0 : lengths.max().item<int64_t>()};
}

at::Tensor unpad(const at::Tensor& tensor, const at::Tensor& indices) {
  return tensor.flatten(0, 1).index_select(0, indices);
}

at::Tensor repad(const at::Tensor& tensor, const at::Tensor& indices, int64_t batch, int64_t seq) {
  auto sizes = tensor.sizes().vec();
  sizes[0] = batch * seq;
  return at::zeros(sizes, tensor.options()).index_copy(0, indices, tensor).unflatten(0, {batch, seq});
}

}  // namespace transformers
