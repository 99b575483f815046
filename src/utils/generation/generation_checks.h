#pragma once

#include <transformers/utils/generation/generate.h>

namespace transformers {

/// Throws where a call contradicts itself or asks for something that is not implemented. call: the options of the call
/// alone; options: merged with those of the model.
void check_call(const CausalLM& model, const ModelInputs& inputs, const GenerationConfig& call,
                const GenerationConfig& options, const GenerateHooks& hooks);

/// Throws when the scores of so many rows do not fit into memory: a system that overcommits memory would end the
/// process instead of refusing the allocation.
void check_rows(CausalLM& model, int64_t prompts, int64_t copies);

/// Throws when a file asks for a static cache beyond a limit; it is as long as the longest text.
void check_static_size(const CausalLM& model, const GenerationConfig& call, int64_t rows, int64_t tokens);

}  // namespace transformers
