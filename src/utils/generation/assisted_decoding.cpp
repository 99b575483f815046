// Mirrors `_assisted_decoding` and `_speculative_sampling` of generation/utils.py, transformers 5.23.0. Deviation: all
// stopping criteria are asked after each token, so that the text ends where it would end without drafts.
#include <ATen/ATen.h>

#include "utils/generation/decoding.h"
#include "utils/generation/draft.h"
#include "utils/generation/step_record.h"

namespace transformers {
namespace {

std::unique_ptr<Drafter> make_drafter(CausalLM& model, const GenerationPlan& plan, const GenerateHooks& hooks) {
  if (plan.drafts.prompt_lookup_num_tokens) {
    return std::make_unique<PromptLookup>(plan, model.config());
  }
  return std::make_unique<Assistant>(*hooks.assistant_model, plan, hooks.generator);
}

/// The number of leading values that are true. accepted: bool [n].
int64_t leading(const at::Tensor& accepted) { return accepted.to(at::kLong).cumprod(0).sum().item<int64_t>(); }

/// Keeps drafted tokens with the probability that makes the result a sample of the model's own distribution, and draws
/// the token behind them. Algorithm 1 of "Fast Inference from Transformers via Speculative Decoding"
/// (arXiv:2211.17192), whose names p and q are used. scores: [n + 1, vocab]. Returns int64 [accepted + 1].
at::Tensor speculative_sampling(const Draft& draft, const at::Tensor& scores,
                                const std::optional<at::Generator>& generator) {
  const auto p = scores.softmax(-1), q = draft.scores.softmax(-1);
  const auto count = draft.ids.size(0);
  const auto chosen = [&](const at::Tensor& of) {
    return of.slice(0, 0, count).gather(1, draft.ids.unsqueeze(1)).squeeze(1);
  };
  const auto ratio = chosen(p) / chosen(q);
  const auto accepted = leading(at::rand(ratio.sizes(), generator, ratio.options()) <= ratio);
  auto next = p[accepted];
  if (accepted < count) {
    const auto rest = (next - q[accepted]).clamp_min(0);
    const auto sum = rest.sum();
    next = sum.item<double>() > 0 ? rest / sum : next;  // it is 0 where rounding alone led to the rejection
  }
  return at::cat({draft.ids.slice(0, 0, accepted), at::multinomial(next, 1, /*replacement=*/false, generator)});
}

/// The drafted tokens up to the first that the model itself would not have chosen, and the token that it chose there.
at::Tensor matching(const GenerationPlan& plan, const Draft& draft, const at::Tensor& scores,
                    const std::optional<at::Generator>& generator) {
  const auto chosen = choose(plan, scores, generator);
  return chosen.slice(0, 0, leading(chosen.slice(0, 0, draft.ids.size(0)) == draft.ids) + 1);
}

/// What the forward of a draft returned for one of its steps, as a forward of that step alone would have. The first
/// step of all has the prompt's rows too. layers: [..., rows, columns]; has_keys: columns are keys.
std::vector<at::Tensor> of_step(const std::vector<at::Tensor>& layers, int64_t step, int64_t drafted, bool has_keys) {
  std::vector<at::Tensor> parts;
  const auto later = drafted - step;
  for (const auto& layer : layers) {
    if (!layer.defined()) {  // not asked for
      parts.push_back(layer);
      continue;
    }
    const auto end = layer.size(-2) - later;
    const auto rows = layer.slice(-2, step == 0 ? 0 : end - 1, end);
    parts.push_back(has_keys ? rows.slice(-1, 0, layer.size(-1) - later) : rows);
  }
  return parts;
}

/// The text grows token by token until it ends.
class AssistedText {
 public:
  AssistedText(CausalLM& model, const GenerationPlan& plan, const GenerateHooks& hooks, GenerateOutput& output)
      : plan_(plan),
        hooks_(hooks),
        output_(output),
        record_(plan, output),
        next_token_(model, plan.model_inputs, plan.input_ids.size(1), plan.first_input),
        ids_(plan.input_ids) {
    goes_on_ = hooks.streamer == nullptr || hooks.streamer->put(ids_.to(at::kCPU));
  }

  bool goes_on() const { return goes_on_; }
  const at::Tensor& ids() const { return ids_; }
  const std::shared_ptr<Cache>& cache() const { return next_token_.cache(); }

  /// Verifies a draft in one forward and appends what remains of it and one token more. Returns how many drafted tokens
  /// were accepted.
  int64_t append(const Draft& draft) {
    const auto drafted = draft.ids.size(0);
    const auto with_draft = at::cat({ids_, draft.ids.unsqueeze(0)}, 1);
    const auto logits = next_token_.score(with_draft, drafted)[0];
    const auto scores = processed(with_draft, logits, drafted);
    const auto tokens = plan_.do_sample && draft.scores.defined()
                            ? speculative_sampling(draft, scores, hooks_.generator)
                            : matching(plan_, draft, scores, hooks_.generator);
    int64_t step = 0;
    for (; goes_on_ && step < tokens.size(0); ++step) {
      record_.add(logits.slice(0, step, step + 1), scores.slice(0, step, step + 1));
      record_.add_outputs(of_step(next_token_.attentions(), step, drafted, /*has_keys=*/true),
                          of_step(next_token_.hidden_states(), step, drafted, /*has_keys=*/false));
      add(tokens.slice(0, step, step + 1));
    }
    next_token_.set_text_length(ids_.size(1));
    output_.drafted_tokens += drafted;
    output_.accepted_tokens += step - 1;
    return step - 1;
  }

 private:
  /// [drafted + 1, vocab].
  at::Tensor processed(const at::Tensor& with_draft, const at::Tensor& logits, int64_t drafted) const {
    std::vector<at::Tensor> rows;
    for (int64_t i = 0; i <= drafted; ++i) {
      rows.push_back(process(plan_, with_draft.slice(1, 0, ids_.size(1) + i), logits.slice(0, i, i + 1)));
    }
    return at::cat(rows);
  }

  void add(const at::Tensor& token) {
    ids_ = at::cat({ids_, token.unsqueeze(0)}, 1);
    ++output_.new_tokens;
    goes_on_ = !finished(plan_, ids_, output_.scores).item<bool>();
    record_.end_step();
    goes_on_ = (hooks_.streamer == nullptr || hooks_.streamer->put(token.to(at::kCPU))) && goes_on_;
  }

  const GenerationPlan& plan_;
  const GenerateHooks& hooks_;
  GenerateOutput& output_;
  StepRecord record_;
  NextTokenScorer next_token_;
  at::Tensor ids_;  // int64 [1, seq]
  bool goes_on_ = true;
};

}  // namespace

GenerateOutput assisted_decoding(CausalLM& model, const GenerationPlan& plan, const GenerateHooks& hooks) {
  GenerateOutput output;
  const auto drafter = make_drafter(model, plan, hooks);
  AssistedText text(model, plan, hooks, output);
  while (text.goes_on()) {
    drafter->learn(text.append(drafter->draft(text.ids())));
  }
  if (hooks.streamer != nullptr) {
    hooks.streamer->end();
  }
  output.sequences = text.ids();
  output.past_key_values = text.cache();
  return output;
}

}  // namespace transformers
