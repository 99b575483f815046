// Mirrors `_beam_search` and its helpers (generation/utils.py, transformers 5.23.0). Deviation: sequences grow with the
// text instead of being as long as max_length from the start.
#include <ATen/ATen.h>

#include <cmath>

#include "utils/generation/decoding.h"
#include "utils/generation/next_token_scorer.h"
#include "utils/generation/step_record.h"

namespace transformers {
namespace {

constexpr double kImpossible = -1e9;

/// Several texts for each row of the batch.
struct Beams {
  at::Tensor sequences;  // int64 [batch, beams, length]
  at::Tensor indices;    // int64 [batch, beams, new]: the row each new token came from, −1 after the text's end
  at::Tensor scores;     // fp32 [batch, beams]
};

/// order: int64 [batch, kept].
at::Tensor gathered(const at::Tensor& tensor, const at::Tensor& order) {
  return at::take_along_dim(tensor, tensor.dim() == 3 ? order.unsqueeze(-1) : order, 1);
}

Beams gathered(const Beams& beams, const at::Tensor& order) {
  return {gathered(beams.sequences, order), gathered(beams.indices, order), gathered(beams.scores, order)};
}

at::Tensor best(const at::Tensor& scores, int64_t count) { return std::get<1>(scores.topk(count)); }

at::Tensor with_column(const at::Tensor& tensor, int64_t value) { return at::constant_pad_nd(tensor, {0, 1}, value); }

class BeamSearch {
 public:
  BeamSearch(const GenerationPlan& plan, const std::optional<at::Generator>& generator)
      : plan_(plan),
        generator_(generator),
        num_beams_(plan.num_beams),
        batch_(plan.input_ids.size(0) / num_beams_),
        prompt_length_(plan.input_ids.size(1)),
        candidates_(std::max<int64_t>(2, 1 + static_cast<int64_t>(plan.eos_token_id.size())) * num_beams_) {
    const auto& ids = plan.input_ids;
    const auto floats = ids.options().dtype(at::kFloat), flags = ids.options().dtype(at::kBool);
    const auto sequences = ids.view({batch_, num_beams_, prompt_length_});
    const auto no_indices = at::empty({batch_, num_beams_, 0}, ids.options());
    const auto no_score = at::full({batch_, num_beams_}, kImpossible, floats);
    running_ = {sequences, no_indices, no_score.clone()};
    running_.scores.select(1, 0).zero_();  // all beams are equal at first, so only the first one may branch
    finished_ = {sequences, no_indices, no_score};
    is_finished_ = at::zeros({batch_, num_beams_}, flags);
    can_improve_ = at::ones({batch_, 1}, flags);
    may_finish_ = at::arange(candidates_, ids.options()).lt(num_beams_).unsqueeze(0);
  }

  /// int64 [batch · beams, length].
  at::Tensor running_ids() const { return running_.sequences.flatten(0, 1); }

  /// One step. scores: processed log-probabilities, fp32 [batch · beams, vocab]. False when the search is over.
  bool advance(const at::Tensor& scores, const std::vector<at::Tensor>& all_scores) {
    const auto next = continuations(scores);
    const auto ended = finished(plan_, next.sequences.flatten(0, 1), all_scores).view({batch_, candidates_});
    const auto still_running = next.scores + ended.to(at::kFloat) * kImpossible;
    running_ = gathered({next.sequences, next.indices, still_running}, best(still_running, num_beams_));
    keep_finished(next, ended);
    can_improve_ = can_improve_.logical_and(may_still_improve());
    const bool all_done = plan_.early_stopping == EarlyStopping::kYes && is_finished_.all().item<bool>();
    return !all_done && can_improve_.any().item<bool>() && !ended.all().item<bool>();
  }

  /// The row of the last step that each running beam continues, int64 [batch · beams].
  at::Tensor origin() const { return running_.indices.select(2, -1).flatten(); }

  void write(GenerateOutput& output) const {
    const auto returned = [&](const at::Tensor& tensor) {
      return tensor.narrow(1, 0, plan_.num_return_sequences).flatten(0, 1);
    };
    const auto indices = returned(finished_.indices);
    const auto new_tokens = indices.ge(0).sum(1);
    const auto longest = new_tokens.max().item<int64_t>();
    output.sequences = returned(finished_.sequences).narrow(1, 0, prompt_length_ + longest).contiguous();
    output.beam_indices = indices.narrow(1, 0, longest).contiguous();
    output.sequences_scores = returned(finished_.scores);
    output.new_tokens = new_tokens.sum().item<int64_t>();
  }

 private:
  int64_t new_length() const { return running_.indices.size(2); }

  double length_factor(int64_t new_tokens) const {
    return std::pow(static_cast<double>(new_tokens), plan_.length_penalty);
  }

  /// The best `candidates_` texts, one token longer, out of all beams of a row.
  Beams continuations(const at::Tensor& scores) const {
    const auto vocab = scores.size(1);
    const auto total =
        (scores.view({batch_, num_beams_, vocab}) + running_.scores.unsqueeze(-1)).view({batch_, num_beams_ * vocab});
    const auto chosen =
        plan_.do_sample ? at::multinomial(total.softmax(-1), candidates_, false, generator_) : best(total, candidates_);
    const auto beam = chosen.floor_divide(vocab), token = chosen.remainder(vocab);
    const auto first_row = at::arange(batch_, chosen.options()).unsqueeze(1) * num_beams_;
    return {at::cat({gathered(running_.sequences, beam), token.unsqueeze(-1)}, 2),
            at::cat({gathered(running_.indices, beam), (beam + first_row).unsqueeze(-1)}, 2), total.gather(1, chosen)};
  }

  /// Candidates that have ended, and are among the first `num_beams_`, compete with the texts finished before.
  void keep_finished(const Beams& next, const at::Tensor& ended) {
    const auto just_finished = ended.logical_and(may_finish_);
    auto obstacles = just_finished.logical_not().to(at::kFloat) + can_improve_.logical_not().to(at::kFloat);
    if (plan_.early_stopping == EarlyStopping::kYes) {
      obstacles = obstacles + is_finished_.all(1, /*keepdim=*/true).to(at::kFloat);
    }
    const auto scores = next.scores / length_factor(next.indices.size(2)) + obstacles * kImpossible;
    const Beams merged{at::cat({with_column(finished_.sequences, fill()), next.sequences}, 1),
                       at::cat({with_column(finished_.indices, -1), next.indices}, 1),
                       at::cat({finished_.scores, scores}, 1)};
    const auto order = best(merged.scores, num_beams_);
    finished_ = gathered(merged, order);
    is_finished_ = gathered(at::cat({is_finished_, just_finished}, 1), order);
  }

  int64_t fill() const { return plan_.pad_token_id.value_or(-1); }

  /// Whether the best running beam of a row could still beat its worst finished one. bool [batch, 1].
  at::Tensor may_still_improve() const {
    const bool longer_is_better = plan_.early_stopping == EarlyStopping::kNever && plan_.length_penalty > 0;
    const auto best_length = longer_is_better ? plan_.max_length - prompt_length_ : new_length();
    const auto best_score = running_.scores.narrow(1, 0, 1) / length_factor(best_length);
    const auto worst_score = finished_.scores.amin(1, /*keepdim=*/true);
    const auto threshold = at::where(is_finished_, worst_score, at::full_like(worst_score, kImpossible));
    return best_score.gt(threshold).any(1, /*keepdim=*/true);
  }

  const GenerationPlan& plan_;
  std::optional<at::Generator> generator_;
  int64_t num_beams_, batch_, prompt_length_, candidates_;
  Beams running_, finished_;
  at::Tensor is_finished_;  // bool [batch, beams]
  at::Tensor can_improve_;  // bool [batch, 1]
  at::Tensor may_finish_;   // bool [1, candidates]
};

}  // namespace

GenerateOutput beam_search(CausalLM& model, const GenerationPlan& plan, const GenerateHooks& hooks) {
  GenerateOutput output;
  StepRecord record(plan, output);
  NextTokenScorer next_token(model, plan.model_inputs, plan.input_ids.size(1), plan.first_input);
  BeamSearch search(plan, hooks.generator);
  for (bool goes_on = true; goes_on;) {
    const auto ids = search.running_ids();
    const auto logits = next_token(ids);
    const auto scores = process(plan, ids, logits.log_softmax(-1));
    record.add(logits, scores);
    record.add_outputs(next_token.attentions(), next_token.hidden_states());
    goes_on = search.advance(scores, output.scores);
    next_token.reorder(search.origin());
    record.end_step();
  }
  search.write(output);
  output.past_key_values = next_token.cache();
  return output;
}

}  // namespace transformers
