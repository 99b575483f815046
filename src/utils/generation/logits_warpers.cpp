// Mirrors the sampling processors of generation/logits_process.py, transformers 5.23.0.
#include <ATen/ATen.h>
#include <transformers/utils/generation/logits_process.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>

namespace transformers {
namespace {

constexpr double kForbidden = -std::numeric_limits<double>::infinity();

void check_kept(int64_t min_tokens_to_keep) {
  TORCH_CHECK(min_tokens_to_keep >= 1, "min_tokens_to_keep must be 1 or above, got ", min_tokens_to_keep);
}

/// bool [rows, vocab]: scores below the k-th best.
at::Tensor below_best(const at::Tensor& scores, int64_t k) {
  const auto best = std::get<0>(scores.topk(std::min(k, scores.size(1))));
  return scores.lt(best.narrow(1, best.size(1) - 1, 1));
}

/// Scores in ascending order and the tokens they belong to, both [rows, n].
struct Ascending {
  at::Tensor scores, tokens;

  /// All tokens.
  explicit Ascending(const at::Tensor& all) { std::tie(scores, tokens) = all.sort(-1, /*descending=*/false); }
  /// The `count` best tokens of each row.
  Ascending(const at::Tensor& all, int64_t count) {
    const auto best = std::get<1>(all.topk(count));
    const auto [sorted, order] = all.gather(1, best).sort(-1, /*descending=*/false);
    scores = sorted;
    tokens = best.gather(1, order);
  }
};

/// bool [rows, n]: the tokens outside the best ones that together have the probability `top_p`.
at::Tensor outside_top_p(const at::Tensor& ascending, double top_p, int64_t min_tokens_to_keep) {
  auto removed = ascending.softmax(-1).cumsum(-1).le(1 - top_p);
  const auto kept = std::min(min_tokens_to_keep, ascending.size(1));
  removed.narrow(1, ascending.size(1) - kept, kept).fill_(false);
  return removed;
}

/// Whether the worst token that stays has the same score as the best one that goes.
bool separates_equals(const at::Tensor& ascending, const at::Tensor& removed) {
  const auto last = ascending.size(1) - 1;
  const auto equal = ascending.narrow(1, 0, last).eq(ascending.narrow(1, 1, last));
  const auto goes_first = removed.narrow(1, 0, last).logical_and(removed.narrow(1, 1, last).logical_not());
  return equal.logical_and(goes_first).any().item<bool>();
}

/// Entropy of each row, fp32 [rows, 1]; forbidden tokens add nothing.
at::Tensor entropy(const at::Tensor& scores) {
  const auto log_probs = scores.log_softmax(-1);
  return (log_probs.exp() * log_probs).nansum(at::IntArrayRef{-1}, /*keepdim=*/true).neg();
}

}  // namespace

TemperatureLogitsWarper::TemperatureLogitsWarper(double temperature) : temperature_(temperature) {
  TORCH_CHECK(temperature > 0, "temperature must be above 0, got ", temperature);
}

at::Tensor TemperatureLogitsWarper::operator()(const at::Tensor&, const at::Tensor& scores) {
  return scores / temperature_;
}

TopKLogitsWarper::TopKLogitsWarper(int64_t top_k, int64_t min_tokens_to_keep)
    : top_k_(std::max(top_k, min_tokens_to_keep)) {
  TORCH_CHECK(top_k > 0, "top_k must be above 0, got ", top_k);
}

at::Tensor TopKLogitsWarper::operator()(const at::Tensor&, const at::Tensor& scores) {
  return scores.masked_fill(below_best(scores, top_k_), kForbidden);
}

TopPLogitsWarper::TopPLogitsWarper(double top_p, int64_t min_tokens_to_keep)
    : top_p_(top_p), min_tokens_to_keep_(min_tokens_to_keep) {
  TORCH_CHECK(top_p >= 0 && top_p <= 1, "top_p must be in [0, 1], got ", top_p);
  check_kept(min_tokens_to_keep);
}

at::Tensor TopPLogitsWarper::operator()(const at::Tensor&, const at::Tensor& scores) {
  const auto remove = [&](const Ascending& ascending, const at::Tensor& removed) {
    const auto all = at::zeros_like(scores, at::kBool).scatter(1, ascending.tokens, removed);
    return scores.masked_fill(all, kForbidden);
  };
  // Behind top-k few tokens are left, and only these need to be sorted.
  if (const auto allowed = scores.ne(kForbidden).sum(-1).max().item<int64_t>();
      0 < allowed && allowed < scores.size(1)) {
    const Ascending best(scores, allowed);
    const auto removed = outside_top_p(best.scores, top_p_, min_tokens_to_keep_);
    // Which of equal tokens stay is up to the sort of all of them, as in HF.
    if (!separates_equals(best.scores, removed)) {
      return remove(best, removed);
    }
  }
  const Ascending all(scores);
  return remove(all, outside_top_p(all.scores, top_p_, min_tokens_to_keep_));
}

MinPLogitsWarper::MinPLogitsWarper(double min_p, int64_t min_tokens_to_keep)
    : min_p_(min_p), min_tokens_to_keep_(min_tokens_to_keep) {
  TORCH_CHECK(min_p >= 0 && min_p <= 1, "min_p must be in [0, 1], got ", min_p);
  check_kept(min_tokens_to_keep);
}

at::Tensor MinPLogitsWarper::operator()(const at::Tensor&, const at::Tensor& scores) {
  const auto probs = scores.softmax(-1);
  const auto best = std::get<1>(probs.topk(std::min(min_tokens_to_keep_, probs.size(1))));
  const auto removed = probs.lt(probs.amax(-1, /*keepdim=*/true) * min_p_).scatter(1, best, false);
  return scores.masked_fill(removed, kForbidden);
}

TopHLogitsWarper::TopHLogitsWarper(double top_h) : top_h_(top_h) {
  TORCH_CHECK(top_h > 0 && top_h <= 1, "top_h must be in (0, 1], got ", top_h);
}

at::Tensor TopHLogitsWarper::operator()(const at::Tensor&, const at::Tensor& scores) {
  constexpr int64_t considered = 100;
  const auto [top_scores, top_ids] = scores.topk(std::min(considered, scores.size(1)));
  const auto log_probs = top_scores.log_softmax(-1);
  const auto terms = (log_probs.exp() * log_probs).neg();
  auto kept = terms.cumsum(-1).le(entropy(top_scores) * top_h_);
  kept.narrow(1, 0, 1).fill_(true);
  const auto removed = at::ones_like(scores, at::kBool).scatter(1, top_ids, kept.logical_not());
  return scores.masked_fill(removed, kForbidden);
}

TypicalLogitsWarper::TypicalLogitsWarper(double mass, int64_t min_tokens_to_keep)
    : mass_(mass), min_tokens_to_keep_(min_tokens_to_keep) {
  TORCH_CHECK(mass > 0 && mass < 1, "typical_p must be in (0, 1), got ", mass);
  check_kept(min_tokens_to_keep);
}

at::Tensor TypicalLogitsWarper::operator()(const at::Tensor&, const at::Tensor& scores) {
  const auto unusual = (scores.log_softmax(-1).neg() - entropy(scores)).abs();
  const auto [sorted, order] = unusual.sort(-1, /*descending=*/false);
  const auto held = scores.gather(-1, order).softmax(-1).cumsum(-1);
  const auto last = held.lt(mass_).sum(1, /*keepdim=*/true).clamp_max(scores.size(1) - 1);
  auto removed = sorted.gt(sorted.gather(1, last));
  removed.narrow(1, 0, std::min(min_tokens_to_keep_, scores.size(1))).fill_(false);
  return scores.masked_fill(removed.scatter(1, order, removed), kForbidden);
}

EpsilonLogitsWarper::EpsilonLogitsWarper(double epsilon, int64_t min_tokens_to_keep)
    : epsilon_(epsilon), min_tokens_to_keep_(min_tokens_to_keep) {
  TORCH_CHECK(epsilon > 0 && epsilon < 1, "epsilon_cutoff must be in (0, 1), got ", epsilon);
  check_kept(min_tokens_to_keep);
}

at::Tensor EpsilonLogitsWarper::operator()(const at::Tensor&, const at::Tensor& scores) {
  const auto improbable = scores.softmax(-1).lt(epsilon_);
  return scores.masked_fill(improbable.logical_and(below_best(scores, min_tokens_to_keep_)), kForbidden);
}

EtaLogitsWarper::EtaLogitsWarper(double epsilon, int64_t min_tokens_to_keep)
    : epsilon_(epsilon), min_tokens_to_keep_(min_tokens_to_keep) {
  TORCH_CHECK(epsilon > 0 && epsilon < 1, "eta_cutoff must be in (0, 1), got ", epsilon);
  check_kept(min_tokens_to_keep);
}

at::Tensor EtaLogitsWarper::operator()(const at::Tensor&, const at::Tensor& scores) {
  const auto eta = (entropy(scores).neg().exp() * std::sqrt(epsilon_)).clamp_max(epsilon_);
  const auto improbable = scores.softmax(-1).lt(eta);
  return scores.masked_fill(improbable.logical_and(below_best(scores, min_tokens_to_keep_)), kForbidden);
}

}  // namespace transformers
