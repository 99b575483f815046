#pragma once

#include <ATen/core/Tensor.h>
#include <transformers/export.h>
#include <transformers/utils/modeling/attention.h>
#include <transformers/utils/modeling/cache.h>

#include <functional>

namespace TRANSFORMERS_API transformers {

/// Decides which keys a query may attend to. Maps index tensors that broadcast to [batch, 1, query, key] (the batch
/// row, and the positions of query and key counted from the start of the cache) to bool.
using MaskFunction =
    std::function<at::Tensor(const at::Tensor& batch_idx, const at::Tensor& query_idx, const at::Tensor& key_idx)>;

struct CausalMaskInputs {
  AttnImplementation implementation;       // resolved
  at::Tensor inputs_embeds{};              // [batch, seq, hidden]: gives sizes, dtype and device
  at::Tensor attention_mask{};             // the caller's: undefined, [batch, past + seq] or 4-D
  at::Tensor position_ids{};               // the caller's; undefined when positions are consecutive
  const Cache* past_key_values = nullptr;  // before this call's tokens are added
  bool is_causal = true;                   // false: every token attends to every other
  MaskFunction or_mask_function{}, and_mask_function{};
};

/// The mask that `attention` takes; mirrors `create_causal_mask` (masking_utils.py, transformers 5.23.0).
///
/// eager: additive, 0 or the smallest value of the embeddings' dtype; sdpa: bool, true = attend; flash: the 2-D mask
/// [batch, past + seq]. Returns an undefined tensor where plain causality (or, for one token, nothing) has to be
/// enforced; only eager's prefill still gets a mask then. 2-D masks: nonzero = attend; they must cover past and new
/// tokens. 4-D masks [batch or 1, heads or 1, query, key]: bool or integer 1 = attend, floating = additive. Position
/// ids that restart, without mask and cache, split a row into packed texts that do not attend to each other. Throws
/// where sizes do not fit.
at::Tensor create_causal_mask(const CausalMaskInputs& inputs);

}  // namespace transformers
