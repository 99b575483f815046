// Mirrors `AssistedCandidateGenerator` of generation/candidate_generator.py, transformers 5.23.0.
#include <ATen/ATen.h>

#include <algorithm>

#include "utils/generation/decoding.h"
#include "utils/generation/draft.h"

namespace transformers {
namespace {

/// The assistant has a cache of its own and runs the whole prompt, also what the model's cache holds already.
ModelInputs inputs_of_assistant(const GenerationPlan& plan) {
  const auto& inputs = plan.model_inputs;
  const auto seq = plan.input_ids.size(1);
  const bool has_whole_prompt = plan.first_input == 0;
  return {.attention_mask = inputs.attention_mask.defined()
                                ? inputs.attention_mask.slice(1, inputs.attention_mask.size(1) - seq)
                                : at::Tensor(),
          .position_ids = has_whole_prompt ? inputs.position_ids : at::Tensor(),
          .token_type_ids = has_whole_prompt ? inputs.token_type_ids : at::Tensor(),
          .past_key_values = std::make_shared<DynamicCache>(),
          .use_cache = true};
}

}  // namespace

Assistant::Assistant(CausalLM& model, const GenerationPlan& plan, const std::optional<at::Generator>& generator)
    : plan_(plan),
      generator_(generator),
      next_token_(model, inputs_of_assistant(plan), plan.input_ids.size(1)),
      num_tokens_(plan.drafts.num_assistant_tokens) {}

Draft Assistant::draft(const at::Tensor& text) {
  next_token_.set_text_length(text.size(1));
  // The model adds a token of its own.
  const auto most = std::min(num_tokens_, plan_.max_length - text.size(1) - 1);
  auto ids = text;
  std::vector<at::Tensor> all_scores;
  for (bool goes_on = true; goes_on && static_cast<int64_t>(all_scores.size()) < most;) {
    const auto scores = process(plan_, ids, next_token_(ids));
    const auto token = choose(plan_, scores, generator_);
    ids = at::cat({ids, token.unsqueeze(1)}, 1);
    all_scores.push_back(scores);
    const auto id = token.item<int64_t>();
    const auto confidence = scores.softmax(-1)[0][id].item<double>();
    goes_on = confidence >= plan_.drafts.assistant_confidence_threshold &&
              std::ranges::find(plan_.eos_token_id, id) == plan_.eos_token_id.end();
  }
  return {.ids = ids[0].slice(0, text.size(1)), .scores = all_scores.empty() ? at::Tensor() : at::cat(all_scores)};
}

void Assistant::learn(int64_t accepted) {
  if (plan_.drafts.is_heuristic) {
    num_tokens_ = accepted == num_tokens_ ? num_tokens_ + 2 : std::max<int64_t>(1, num_tokens_ - 1);
  }
}

}  // namespace transformers
