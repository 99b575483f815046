// Mirrors masking_utils.py, transformers 5.23.0. Deviations: 4-D masks mean the same in every kernel, and a 2-D mask
// that is too short is an error where HF pads it with zeros.
#include <ATen/ATen.h>
#include <transformers/utils/modeling/masking.h>

#include "utils/modeling/smallest_value.h"

namespace transformers {
namespace {

struct MaskSizes {
  int64_t batch, query, key, past;
  at::Device device;
};

MaskSizes sizes_of(const CausalMaskInputs& inputs) {
  const auto& embeds = inputs.inputs_embeds;
  const auto query = embeds.size(1);
  const auto* cache = inputs.past_key_values;
  return {embeds.size(0), query, cache != nullptr ? cache->get_kv_length(query) : query,
          cache != nullptr ? cache->get_usable_length(query) : 0, embeds.device()};
}

at::Tensor additive(const at::Tensor& attends, at::ScalarType dtype) {
  return at::zeros(attends.sizes(), attends.options().dtype(dtype))
      .masked_fill_(attends.logical_not(), smallest_value(dtype));
}

/// A mask of zeros and ones is probably meant to select positions; added to the scores it hides nothing.
void warn_of_zeros_and_ones(const at::Tensor& mask) {
  if (mask.is_cpu() && mask.gt(0).any().item<bool>() && mask.eq(0).logical_or(mask.eq(1)).all().item<bool>()) {
    TORCH_WARN_ONCE("a floating 4-D attention_mask is added to the scores; this one holds only 0 and 1 and hides ",
                    "nothing: give bool or integers where 1 means to attend");
  }
}

at::Tensor prepared_4d(const CausalMaskInputs& inputs, const MaskSizes& sizes) {
  const auto& mask = inputs.attention_mask;
  TORCH_CHECK(
      (mask.size(0) == sizes.batch || mask.size(0) == 1) && mask.size(2) == sizes.query && mask.size(3) == sizes.key,
      "attention_mask must be [", sizes.batch, " or 1, heads or 1, ", sizes.query, ", ", sizes.key, "], got ",
      mask.sizes());
  TORCH_CHECK(inputs.implementation != AttnImplementation::kFlash,
              "flash attention takes a 2-D attention_mask, got 4 dimensions");
  const auto dtype = inputs.inputs_embeds.scalar_type();
  if (mask.is_floating_point()) {
    warn_of_zeros_and_ones(mask);
    return mask.to(sizes.device, dtype).clamp_min(smallest_value(dtype));
  }
  const auto attends = mask.to(sizes.device, at::kBool);
  return inputs.implementation == AttnImplementation::kEager ? additive(attends, dtype) : attends;
}

/// Bool [batch, key], or undefined when no token is hidden by it.
at::Tensor padding_mask(const CausalMaskInputs& inputs, const MaskSizes& sizes) {
  const auto& mask = inputs.attention_mask;
  if (!mask.defined()) {
    return {};
  }
  TORCH_CHECK(mask.dim() == 2, "attention_mask must have 2 or 4 dimensions, got ", mask.dim());
  const auto* cache = inputs.past_key_values;
  const auto wanted = sizes.past + sizes.query;
  const bool windowed = cache != nullptr && cache->get_max_length() > 0;
  TORCH_CHECK(mask.size(0) == sizes.batch && (mask.size(1) == wanted || (windowed && mask.size(1) > wanted)),
              "attention_mask must cover past and new tokens, [", sizes.batch, ", ", wanted, "], got ", mask.sizes());
  auto attends = mask.to(sizes.device).ne(0);
  if (attends.size(1) > sizes.key) {
    attends = attends.narrow(1, attends.size(1) - sizes.key, sizes.key);
  }
  return attends;
}

/// The number of the packed text that a token belongs to, [batch, seq]; undefined if each row is one text.
at::Tensor packed_sequences(const CausalMaskInputs& inputs, const MaskSizes& sizes) {
  if (!inputs.position_ids.defined() || inputs.attention_mask.defined() || inputs.past_key_values != nullptr) {
    return {};
  }
  const auto& positions = inputs.position_ids;
  const auto restarts = at::diff(positions, 1, -1, positions.narrow(1, 0, 1) - 1).ne(1);
  const auto texts = restarts.cumsum(-1);
  if (texts.select(1, texts.size(1) - 1).eq(0).all().item<bool>()) {
    return {};
  }
  return texts.expand({sizes.batch, -1});
}

bool causality_is_enough(const CausalMaskInputs& inputs, const MaskSizes& sizes, const at::Tensor& padding,
                         bool special) {
  const bool eager_needs_a_mask = inputs.implementation == AttnImplementation::kEager && sizes.query > 1;
  if (special || eager_needs_a_mask) {
    return false;
  }
  const auto whole = sizes.past + sizes.query == sizes.key;
  if (!whole) {
    // A static buffer. At the first prompt causality hides the unfilled part; later it has to be masked.
    return sizes.past == 0 && sizes.query > 1 && inputs.is_causal &&
           (!padding.defined() || padding.narrow(1, 0, sizes.query).all().item<bool>());
  }
  return (sizes.query == 1 || sizes.query == sizes.key) && (!padding.defined() || padding.all().item<bool>());
}

at::Tensor attends_to(const CausalMaskInputs& inputs, const MaskSizes& sizes, at::Tensor padding,
                      const at::Tensor& packed) {
  const auto options = at::TensorOptions().dtype(at::kLong).device(sizes.device);
  const auto query = (at::arange(sizes.query, options) + sizes.past).view({1, 1, -1, 1});
  const auto key = at::arange(sizes.key, options).view({1, 1, 1, -1});
  const auto batch = at::arange(sizes.batch, options).view({-1, 1, 1, 1});
  at::Tensor mask = inputs.is_causal ? key.le(query) : key.lt(sizes.past + sizes.query).expand({1, 1, sizes.query, -1});
  if (packed.defined()) {
    mask = mask.logical_and(packed.unsqueeze(1).unsqueeze(1).eq(packed.unsqueeze(1).unsqueeze(-1)));
  }
  if (inputs.or_mask_function) {
    mask = mask.logical_or(inputs.or_mask_function(batch, query, key));
  }
  if (inputs.and_mask_function) {
    mask = mask.logical_and(inputs.and_mask_function(batch, query, key));
  }
  if (padding.defined()) {
    padding = at::constant_pad_nd(padding, {0, sizes.key - padding.size(1)}, 0);
    mask = mask.logical_and(padding.unsqueeze(1).unsqueeze(1));
  }
  return mask;
}

}  // namespace

at::Tensor create_causal_mask(const CausalMaskInputs& inputs) {
  const auto sizes = sizes_of(inputs);
  if (inputs.attention_mask.defined() && inputs.attention_mask.dim() == 4) {
    return prepared_4d(inputs, sizes);
  }
  const auto padding = padding_mask(inputs, sizes);
  const auto packed = packed_sequences(inputs, sizes);
  const bool special = packed.defined() || inputs.or_mask_function || inputs.and_mask_function;
  if (causality_is_enough(inputs, sizes, padding, special)) {
    return {};
  }
  if (inputs.implementation == AttnImplementation::kFlash) {
    TORCH_CHECK(!inputs.or_mask_function && !inputs.and_mask_function && inputs.is_causal,
                "flash attention takes plain causal masks with padding or packed rows only; use sdpa or eager");
    if (packed.defined()) {
      return packed.to(sizes.device).unsqueeze(1);
    }
    const auto filled = sizes.past + sizes.query;
    return padding.defined()
               ? padding.narrow(1, 0, filled)
               : at::ones({sizes.batch, filled}, at::TensorOptions().dtype(at::kBool).device(sizes.device));
  }
  const auto attends = attends_to(inputs, sizes, padding, packed);
  return inputs.implementation == AttnImplementation::kEager ? additive(attends, inputs.inputs_embeds.scalar_type())
                                                             : attends;
}

}  // namespace transformers
