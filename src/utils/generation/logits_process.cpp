// Mirrors the processors of generation/logits_process.py, transformers 5.23.0.
#include <ATen/ATen.h>
#include <transformers/utils/generation/logits_process.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

namespace transformers {
namespace {

constexpr double kForbidden = -std::numeric_limits<double>::infinity();

at::Tensor id_tensor(const std::vector<int64_t>& ids, const at::Tensor& like) {
  return at::tensor(ids, at::kLong).to(like.device());
}

void check_in_vocabulary(const char* what, const std::vector<int64_t>& ids, const at::Tensor& scores) {
  for (const auto id : ids) {
    TORCH_CHECK(id >= 0 && id < scores.size(1), what, " must be token ids in [0, ", scores.size(1), "), got ", id);
  }
}

at::Tensor forbid(const at::Tensor& scores, const std::vector<int64_t>& ids) {
  return scores.index_fill(1, id_tensor(ids, scores), kForbidden);
}

/// Leaves only these ids possible, all with the same score.
at::Tensor force(const at::Tensor& scores, const std::vector<int64_t>& ids) {
  return at::full_like(scores, kForbidden).index_fill_(1, id_tensor(ids, scores), 0);
}

}  // namespace

SequenceBiasLogitsProcessor::SequenceBiasLogitsProcessor(Biases sequence_bias)
    : sequence_bias_(std::move(sequence_bias)) {
  for (const auto& [sequence, bias] : sequence_bias_) {
    TORCH_CHECK(!sequence.empty(), "sequence_bias and bad_words_ids must be made of non-empty lists of token ids");
    TORCH_CHECK(!std::isnan(bias), "sequence_bias must not be NaN");
  }
}

void SequenceBiasLogitsProcessor::prepare(const at::Tensor& scores) {
  std::map<TokenSequence, double> by_sequence;  // if a sequence is listed twice, its last bias counts
  for (const auto& [sequence, bias] : sequence_bias_) {
    check_in_vocabulary("sequence_bias and bad_words_ids", sequence, scores);
    by_sequence[sequence] = bias;
  }
  single_token_bias_ = at::zeros({scores.size(1)}, scores.options());
  std::map<size_t, Group> by_length;
  for (const auto& [sequence, bias] : by_sequence) {
    if (sequence.size() == 1) {
      single_token_bias_[sequence.front()] = bias;
      continue;
    }
    auto& group = by_length[sequence.size()];
    const auto ids = id_tensor(sequence, scores);
    const auto appended = [](const at::Tensor& list, const at::Tensor& item) {
      return list.defined() ? at::cat({list, item}) : item;
    };
    group.prefixes = appended(group.prefixes, ids.slice(0, 0, -1).unsqueeze(0));
    group.last_tokens = appended(group.last_tokens, ids.slice(0, -1));
    group.biases = appended(group.biases, at::full({1}, bias, scores.options()));
  }
  for (auto& [length, group] : by_length) {
    groups_.push_back(std::move(group));
  }
}

at::Tensor SequenceBiasLogitsProcessor::operator()(const at::Tensor& input_ids, const at::Tensor& scores) {
  if (!single_token_bias_.defined()) {
    prepare(scores);
  }
  auto biased = scores + single_token_bias_;
  for (const auto& group : groups_) {
    const auto length = group.prefixes.size(1);
    if (length > input_ids.size(1)) {
      continue;
    }
    const auto matches = input_ids.slice(1, -length).unsqueeze(1).eq(group.prefixes).all(-1);
    biased.index_add_(1, group.last_tokens, at::where(matches, group.biases, at::zeros_like(group.biases)));
  }
  return biased;
}

namespace {

SequenceBiasLogitsProcessor::Biases forbidden_sequences(const std::vector<TokenSequence>& bad_words_ids,
                                                        const std::vector<int64_t>& eos_token_id) {
  SequenceBiasLogitsProcessor::Biases forbidden;
  for (const auto& word : bad_words_ids) {
    const bool is_end = word.size() == 1 && std::ranges::find(eos_token_id, word[0]) != eos_token_id.end();
    if (!is_end) {
      forbidden.emplace_back(word, kForbidden);
    }
  }
  return forbidden;
}

}  // namespace

NoBadWordsLogitsProcessor::NoBadWordsLogitsProcessor(const std::vector<TokenSequence>& bad_words_ids,
                                                     const std::vector<int64_t>& eos_token_id)
    : SequenceBiasLogitsProcessor(forbidden_sequences(bad_words_ids, eos_token_id)) {}

RepetitionPenaltyLogitsProcessor::RepetitionPenaltyLogitsProcessor(double penalty, at::Tensor prompt_ignore_length)
    : penalty_(penalty), prompt_ignore_length_(std::move(prompt_ignore_length)) {
  TORCH_CHECK(penalty > 0, "repetition_penalty must be above 0, got ", penalty);
}

at::Tensor RepetitionPenaltyLogitsProcessor::operator()(const at::Tensor& input_ids, const at::Tensor& scores) {
  const auto vocab = scores.size(1);
  // Ids that do not count are written to an extra column.
  auto ids = input_ids.clamp_max(vocab);
  if (prompt_ignore_length_.defined()) {
    const auto places = at::arange(ids.size(1), ids.options());
    ids = ids.masked_fill(places.lt(prompt_ignore_length_.to(ids.device()).unsqueeze(1)), vocab);
  }
  const auto padded = at::constant_pad_nd(scores, {0, 1}, 0);
  const auto seen = padded.gather(1, ids);
  return padded.scatter(1, ids, at::where(seen.lt(0), seen * penalty_, seen / penalty_)).narrow(1, 0, vocab);
}

NoRepeatNGramLogitsProcessor::NoRepeatNGramLogitsProcessor(int64_t ngram_size) : ngram_size_(ngram_size) {
  TORCH_CHECK(ngram_size > 0, "no_repeat_ngram_size must be above 0, got ", ngram_size);
}

at::Tensor NoRepeatNGramLogitsProcessor::operator()(const at::Tensor& input_ids, const at::Tensor& scores) {
  const auto length = input_ids.size(1), vocab = scores.size(1);
  if (length < ngram_size_) {
    return scores;
  }
  const auto prefix = input_ids.slice(1, length + 1 - ngram_size_).unsqueeze(1);
  const auto windows = input_ids.unfold(1, ngram_size_, 1);  // [rows, windows, ngram_size]
  const auto matches = windows.slice(2, 0, -1).eq(prefix).all(-1);
  // Windows that do not match are written to an extra column.
  const auto banned_ids = windows.select(2, -1).clamp_max(vocab).masked_fill(matches.logical_not(), vocab);
  const auto banned = at::zeros({scores.size(0), vocab + 1}, scores.options().dtype(at::kBool));
  return scores.masked_fill(banned.scatter(1, banned_ids, true).narrow(1, 0, vocab), kForbidden);
}

MinLengthLogitsProcessor::MinLengthLogitsProcessor(int64_t min_length, std::vector<int64_t> eos_token_id)
    : min_length_(min_length), eos_token_id_(std::move(eos_token_id)) {
  TORCH_CHECK(min_length >= 0, "min_length must be 0 or above, got ", min_length);
}

at::Tensor MinLengthLogitsProcessor::operator()(const at::Tensor& input_ids, const at::Tensor& scores) {
  return input_ids.size(1) < min_length_ ? forbid(scores, eos_token_id_) : scores;
}

MinNewTokensLengthLogitsProcessor::MinNewTokensLengthLogitsProcessor(int64_t prompt_length_to_skip,
                                                                     int64_t min_new_tokens,
                                                                     std::vector<int64_t> eos_token_id)
    : MinLengthLogitsProcessor(prompt_length_to_skip + min_new_tokens, std::move(eos_token_id)) {}

PrefixConstrainedLogitsProcessor::PrefixConstrainedLogitsProcessor(PrefixAllowedTokens prefix_allowed_tokens,
                                                                   int64_t num_beams)
    : prefix_allowed_tokens_(std::move(prefix_allowed_tokens)), num_beams_(num_beams) {}

at::Tensor PrefixConstrainedLogitsProcessor::operator()(const at::Tensor& input_ids, const at::Tensor& scores) {
  auto mask = at::full_like(scores, kForbidden);
  for (int64_t row = 0; row < input_ids.size(0); ++row) {
    const auto batch_row = row / num_beams_;
    const auto allowed = prefix_allowed_tokens_(batch_row, input_ids[row]);
    TORCH_CHECK(!allowed.empty(), "prefix_allowed_tokens allows no token in row ", batch_row);
    check_in_vocabulary("what prefix_allowed_tokens allows", allowed, scores);
    mask[row].index_fill_(0, id_tensor(allowed, scores), 0);
  }
  const auto constrained = scores + mask;
  const auto impossible =
      constrained.amax(-1).isneginf().view({-1, num_beams_}).all(1, /*keepdim=*/true).repeat_interleave(num_beams_, 0);
  return at::where(impossible, mask, constrained);
}

at::Tensor ForcedBOSTokenLogitsProcessor::operator()(const at::Tensor& input_ids, const at::Tensor& scores) {
  return input_ids.size(1) == 1 ? force(scores, bos_token_id_) : scores;
}

ForcedEOSTokenLogitsProcessor::ForcedEOSTokenLogitsProcessor(int64_t max_length, std::vector<int64_t> eos_token_id)
    : max_length_(max_length), eos_token_id_(std::move(eos_token_id)) {}

at::Tensor ForcedEOSTokenLogitsProcessor::operator()(const at::Tensor& input_ids, const at::Tensor& scores) {
  return input_ids.size(1) == max_length_ - 1 ? force(scores, eos_token_id_) : scores;
}

at::Tensor InfNanRemoveLogitsProcessor::operator()(const at::Tensor&, const at::Tensor& scores) {
  return scores.nan_to_num(0);
}

ExponentialDecayLengthPenalty::ExponentialDecayLengthPenalty(std::pair<int64_t, double> start_and_factor,
                                                             std::vector<int64_t> eos_token_id,
                                                             int64_t input_ids_seq_length)
    : regulation_start_(start_and_factor.first + input_ids_seq_length),
      regulation_factor_(start_and_factor.second),
      eos_token_id_(std::move(eos_token_id)) {}

at::Tensor ExponentialDecayLengthPenalty::operator()(const at::Tensor& input_ids, const at::Tensor& scores) {
  const auto beyond = input_ids.size(1) - regulation_start_;
  if (beyond <= 0) {
    return scores;
  }
  const auto ids = id_tensor(eos_token_id_, scores);
  const auto ends = scores.index_select(1, ids);
  const auto penalty = ends.abs() * (std::pow(regulation_factor_, static_cast<double>(beyond)) - 1);
  return scores.index_copy(1, ids, ends + penalty.masked_fill(ends.isfinite().logical_not(), 0));
}

SuppressTokensLogitsProcessor::SuppressTokensLogitsProcessor(std::vector<int64_t> suppress_tokens)
    : suppress_tokens_(std::move(suppress_tokens)) {}

at::Tensor SuppressTokensLogitsProcessor::operator()(const at::Tensor&, const at::Tensor& scores) {
  return forbid(scores, suppress_tokens_);
}

SuppressTokensAtBeginLogitsProcessor::SuppressTokensAtBeginLogitsProcessor(std::vector<int64_t> begin_suppress_tokens,
                                                                           int64_t begin_index)
    : begin_suppress_tokens_(std::move(begin_suppress_tokens)), begin_index_(begin_index) {}

at::Tensor SuppressTokensAtBeginLogitsProcessor::operator()(const at::Tensor& input_ids, const at::Tensor& scores) {
  return input_ids.size(1) == begin_index_ ? forbid(scores, begin_suppress_tokens_) : scores;
}

at::Tensor LogitNormalization::operator()(const at::Tensor&, const at::Tensor& scores) {
  return scores.log_softmax(-1);
}

}  // namespace transformers
