#pragma once

#include "utils/generation/generation_plan.h"

namespace transformers {

/// Greedy search and sampling; mirrors `GenerationMixin._sample`.
GenerateOutput sample(CausalLM& model, const GenerationPlan& plan, const GenerateHooks& hooks);

/// The same with drafts that the model verifies; mirrors `GenerationMixin._assisted_decoding`.
GenerateOutput assisted_decoding(CausalLM& model, const GenerationPlan& plan, const GenerateHooks& hooks);

/// Beam search and beam sampling; mirrors `GenerationMixin._beam_search`.
GenerateOutput beam_search(CausalLM& model, const GenerationPlan& plan, const GenerateHooks& hooks);

/// The best token of each row, or one drawn from the distribution that the scores describe, int64 [rows]. scores:
/// [rows, vocab].
at::Tensor choose(const GenerationPlan& plan, const at::Tensor& scores, const std::optional<at::Generator>& generator);

}  // namespace transformers
