#include <ATen/ATen.h>

#include "utils/generation/decoding.h"
#include "utils/generation/next_token_scorer.h"
#include "utils/generation/step_record.h"

namespace transformers {

at::Tensor choose(const GenerationPlan& plan, const at::Tensor& scores, const std::optional<at::Generator>& generator) {
  if (!plan.do_sample) {
    return scores.argmax(-1);
  }
  return at::multinomial(scores.softmax(-1), 1, /*replacement=*/false, generator).squeeze(1);
}

GenerateOutput sample(CausalLM& model, const GenerationPlan& plan, const GenerateHooks& hooks) {
  GenerateOutput output;
  StepRecord record(plan, output);
  NextTokenScorer next_token(model, plan.model_inputs, plan.input_ids.size(1), plan.first_input);
  auto ids = plan.input_ids;
  auto unfinished = at::ones({ids.size(0)}, ids.options().dtype(at::kBool));
  bool goes_on = hooks.streamer == nullptr || hooks.streamer->put(ids.to(at::kCPU));
  for (auto open = ids.size(0); goes_on && open > 0;) {
    const auto logits = next_token(ids);
    const auto scores = process(plan, ids, logits);
    record.add(logits, scores);
    record.add_outputs(next_token.attentions(), next_token.hidden_states());
    auto tokens = choose(plan, scores, hooks.generator);
    if (!plan.eos_token_id.empty()) {
      tokens = tokens.masked_fill(unfinished.logical_not(), *plan.pad_token_id);
    }
    output.new_tokens += open;
    ids = at::cat({ids, tokens.unsqueeze(1)}, 1);
    unfinished = unfinished.logical_and(finished(plan, ids, output.scores).logical_not());
    open = unfinished.sum().item<int64_t>();
    record.end_step();
    goes_on = hooks.streamer == nullptr || hooks.streamer->put(tokens.to(at::kCPU));
  }
  if (hooks.streamer != nullptr) {
    hooks.streamer->end();
  }
  output.sequences = std::move(ids);
  output.past_key_values = next_token.cache();
  return output;
}

}  // namespace transformers
