#pragma once

#include <transformers/export.h>
#include <transformers/utils/modeling/modeling_outputs.h>

#include <optional>

namespace TRANSFORMERS_API transformers {
namespace llama {

/// Makes the arguments of one step's forward from those of a whole generation. Mirrors
/// `LlamaForCausalLM.prepare_inputs_for_generation` of transformers 4.37.2; `generate` prepares its steps itself.
///
/// inputs: input_ids of the whole text or of its unprocessed part, past_key_values, attention_mask over the whole text,
/// inputs_embeds (used while there is no cache). Ids that the cache has seen are dropped, the mask is cut to the
/// cache's maximum length, and position ids are computed from the mask, with 1 at padding. seen_tokens: the number of
/// all tokens that went into the cache, if it has dropped some; unset: its length.
ModelInputs prepare_inputs_for_generation(const ModelInputs& inputs, std::optional<int64_t> seen_tokens = {});

}  // namespace llama
}  // namespace transformers
