#pragma once

#include "utils/generation/generation_plan.h"

namespace transformers {

/// Greedy search and sampling; mirrors `GenerationMixin._sample`.
GenerateOutput sample(CausalLM& model, const GenerationPlan& plan, const GenerateHooks& hooks);

/// Beam search and beam sampling; mirrors `GenerationMixin._beam_search`.
GenerateOutput beam_search(CausalLM& model, const GenerationPlan& plan, const GenerateHooks& hooks);

}  // namespace transformers
