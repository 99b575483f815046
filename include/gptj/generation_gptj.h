#pragma once

#include <transformers/export.h>
#include <transformers/utils/modeling/modeling_outputs.h>

namespace TRANSFORMERS_API transformers {
namespace gptj {

/// Makes the arguments of one step's forward from those of a whole generation. Mirrors
/// `GPTJForCausalLM.prepare_inputs_for_generation` of transformers 4.37.2; `generate` prepares its steps itself.
///
/// inputs: input_ids of the whole text, past_key_values, attention_mask over the whole text, token_type_ids,
/// inputs_embeds (used while there is no cache). Ids that the cache holds are dropped; if there are no more ids than it
/// holds, all but the last. Token types are cut in the same way, and position ids are computed from the mask, with 1 at
/// padding.
ModelInputs prepare_inputs_for_generation(const ModelInputs& inputs);

}  // namespace gptj
}  // namespace transformers
