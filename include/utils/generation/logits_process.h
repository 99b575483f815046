#pragma once

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>
#include <transformers/export.h>
#include <transformers/utils/configuration/generation_config.h>

#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

namespace TRANSFORMERS_API transformers {

// Mirrors generation/logits_process.py, transformers 5.23.0, class by class.

/// Changes next-token scores before a token is chosen.
class LogitsProcessor {
 public:
  virtual ~LogitsProcessor() = default;
  /// input_ids: int64 [rows, seq], prompt and new tokens; scores: fp32 [rows, vocab]. Returns the new scores and does
  /// not change its arguments.
  virtual at::Tensor operator()(const at::Tensor& input_ids, const at::Tensor& scores) = 0;
};

using TokenSequence = std::vector<int64_t>;
/// Returns the tokens that are allowed next, given the row's number and its ids so far, int64 [seq].
using PrefixAllowedTokens = std::function<std::vector<int64_t>(int64_t row, const at::Tensor& ids)>;

/// Adds a bias to the last token of each sequence where the text ends with the tokens before it.
class SequenceBiasLogitsProcessor : public LogitsProcessor {
 public:
  using Biases = std::vector<std::pair<TokenSequence, double>>;
  /// Throws on empty sequences; ids outside the vocabulary throw at the first call.
  explicit SequenceBiasLogitsProcessor(Biases sequence_bias);
  at::Tensor operator()(const at::Tensor& input_ids, const at::Tensor& scores) override;

 private:
  /// Sequences of one length, so that they are matched together.
  struct Group {
    at::Tensor prefixes;     // int64 [sequences, length − 1]
    at::Tensor last_tokens;  // int64 [sequences]
    at::Tensor biases;       // fp32 [sequences]
  };
  void prepare(const at::Tensor& scores);

  Biases sequence_bias_;
  at::Tensor single_token_bias_;  // fp32 [vocab]
  std::vector<Group> groups_;
};

/// Forbids the last token of each sequence where the text ends with the tokens before it. A sequence that consists of
/// an end token alone is ignored.
class NoBadWordsLogitsProcessor : public SequenceBiasLogitsProcessor {
 public:
  NoBadWordsLogitsProcessor(const std::vector<TokenSequence>& bad_words_ids, const std::vector<int64_t>& eos_token_id);
};

/// Penalises tokens that occur in the text: multiplies negative scores by the penalty and divides positive ones by it.
class RepetitionPenaltyLogitsProcessor : public LogitsProcessor {
 public:
  /// prompt_ignore_length: int64 [rows], number of tokens at a row's start (its padding) that do not count; may be
  /// undefined.
  explicit RepetitionPenaltyLogitsProcessor(double penalty, at::Tensor prompt_ignore_length = {});
  at::Tensor operator()(const at::Tensor& input_ids, const at::Tensor& scores) override;

 private:
  double penalty_;
  at::Tensor prompt_ignore_length_;
};

/// Prevents any sequence of `ngram_size` tokens from occurring twice; 1 forbids every token that has occurred.
class NoRepeatNGramLogitsProcessor : public LogitsProcessor {
 public:
  explicit NoRepeatNGramLogitsProcessor(int64_t ngram_size);
  at::Tensor operator()(const at::Tensor& input_ids, const at::Tensor& scores) override;

 private:
  int64_t ngram_size_;
};

/// Forbids end tokens before the text has `min_length` tokens, the prompt included.
class MinLengthLogitsProcessor : public LogitsProcessor {
 public:
  MinLengthLogitsProcessor(int64_t min_length, std::vector<int64_t> eos_token_id);
  at::Tensor operator()(const at::Tensor& input_ids, const at::Tensor& scores) override;

 private:
  int64_t min_length_;
  std::vector<int64_t> eos_token_id_;
};

/// Forbids end tokens before there are `min_new_tokens` tokens after the prompt.
class MinNewTokensLengthLogitsProcessor : public MinLengthLogitsProcessor {
 public:
  MinNewTokensLengthLogitsProcessor(int64_t prompt_length_to_skip, int64_t min_new_tokens,
                                    std::vector<int64_t> eos_token_id);
};

/// Allows only the tokens that a function returns. If none of them is still possible in any beam of a row, the allowed
/// tokens become possible again. Throws when the function returns an empty list.
class PrefixConstrainedLogitsProcessor : public LogitsProcessor {
 public:
  PrefixConstrainedLogitsProcessor(PrefixAllowedTokens prefix_allowed_tokens, int64_t num_beams);
  at::Tensor operator()(const at::Tensor& input_ids, const at::Tensor& scores) override;

 private:
  PrefixAllowedTokens prefix_allowed_tokens_;
  int64_t num_beams_;
};

/// Forces the second token of a text to be this one.
class ForcedBOSTokenLogitsProcessor : public LogitsProcessor {
 public:
  explicit ForcedBOSTokenLogitsProcessor(int64_t bos_token_id) : bos_token_id_{bos_token_id} {}
  at::Tensor operator()(const at::Tensor& input_ids, const at::Tensor& scores) override;

 private:
  std::vector<int64_t> bos_token_id_;
};

/// Forces the token that reaches `max_length` to be one of these.
class ForcedEOSTokenLogitsProcessor : public LogitsProcessor {
 public:
  ForcedEOSTokenLogitsProcessor(int64_t max_length, std::vector<int64_t> eos_token_id);
  at::Tensor operator()(const at::Tensor& input_ids, const at::Tensor& scores) override;

 private:
  int64_t max_length_;
  std::vector<int64_t> eos_token_id_;
};

/// Replaces NaN by 0 and infinities by the largest and smallest numbers.
class InfNanRemoveLogitsProcessor : public LogitsProcessor {
 public:
  at::Tensor operator()(const at::Tensor& input_ids, const at::Tensor& scores) override;
};

/// Raises the end tokens' scores by |score| · (factor^n − 1), n tokens after `start` new ones.
class ExponentialDecayLengthPenalty : public LogitsProcessor {
 public:
  ExponentialDecayLengthPenalty(std::pair<int64_t, double> start_and_factor, std::vector<int64_t> eos_token_id,
                                int64_t input_ids_seq_length);
  at::Tensor operator()(const at::Tensor& input_ids, const at::Tensor& scores) override;

 private:
  int64_t regulation_start_;
  double regulation_factor_;
  std::vector<int64_t> eos_token_id_;
};

/// Forbids these tokens.
class SuppressTokensLogitsProcessor : public LogitsProcessor {
 public:
  explicit SuppressTokensLogitsProcessor(std::vector<int64_t> suppress_tokens);
  at::Tensor operator()(const at::Tensor& input_ids, const at::Tensor& scores) override;

 private:
  std::vector<int64_t> suppress_tokens_;
};

/// Forbids these tokens when the text is `begin_index` tokens long.
class SuppressTokensAtBeginLogitsProcessor : public LogitsProcessor {
 public:
  SuppressTokensAtBeginLogitsProcessor(std::vector<int64_t> begin_suppress_tokens, int64_t begin_index);
  at::Tensor operator()(const at::Tensor& input_ids, const at::Tensor& scores) override;

 private:
  std::vector<int64_t> begin_suppress_tokens_;
  int64_t begin_index_;
};

/// Raises the scores of tokens that a keyed hash of the preceding text prefers; for detection see the paper arXiv
/// 2306.04634. The hash runs on the CPU, so that the watermark is the same on every device.
class WatermarkLogitsProcessor : public LogitsProcessor {
 public:
  WatermarkLogitsProcessor(int64_t vocab_size, const WatermarkingConfig& config);
  at::Tensor operator()(const at::Tensor& input_ids, const at::Tensor& scores) override;

 private:
  /// The preferred tokens, int64 [n]. text: int64 [seq] on the CPU.
  at::Tensor greenlist(const at::Tensor& text);
  /// Those of the best tokens that are preferred if they are themselves the last token of the text.
  at::Tensor self_hashed_greenlist(const at::Tensor& text, const at::Tensor& scores);

  int64_t vocab_size_;
  WatermarkingConfig config_;
  at::Generator generator_;
  at::Tensor fixed_table_;  // int64 [1000003], a permutation
};

/// Turns scores into log-probabilities.
class LogitNormalization : public LogitsProcessor {
 public:
  at::Tensor operator()(const at::Tensor& input_ids, const at::Tensor& scores) override;
};

// The following processors shape the distribution for sampling: excluded tokens get −inf, and at least
// `min_tokens_to_keep` of the best tokens are kept.

/// Divides scores by the temperature.
class TemperatureLogitsWarper : public LogitsProcessor {
 public:
  explicit TemperatureLogitsWarper(double temperature);
  at::Tensor operator()(const at::Tensor& input_ids, const at::Tensor& scores) override;

 private:
  double temperature_;
};

/// Keeps the k best tokens, and those that tie with the k-th. A k above the vocabulary size keeps all.
class TopKLogitsWarper : public LogitsProcessor {
 public:
  explicit TopKLogitsWarper(int64_t top_k, int64_t min_tokens_to_keep = 1);
  at::Tensor operator()(const at::Tensor& input_ids, const at::Tensor& scores) override;

 private:
  int64_t top_k_;
};

/// Keeps the smallest set of best tokens whose probabilities sum to at least `top_p`.
class TopPLogitsWarper : public LogitsProcessor {
 public:
  explicit TopPLogitsWarper(double top_p, int64_t min_tokens_to_keep = 1);
  at::Tensor operator()(const at::Tensor& input_ids, const at::Tensor& scores) override;

 private:
  double top_p_;
  int64_t min_tokens_to_keep_;
};

/// Keeps tokens whose probability is at least `min_p` times the largest one.
class MinPLogitsWarper : public LogitsProcessor {
 public:
  explicit MinPLogitsWarper(double min_p, int64_t min_tokens_to_keep = 1);
  at::Tensor operator()(const at::Tensor& input_ids, const at::Tensor& scores) override;

 private:
  double min_p_;
  int64_t min_tokens_to_keep_;
};

/// Of the best 100 tokens keeps the first ones, while their entropy sums to at most `top_h` times the entropy of all
/// 100.
class TopHLogitsWarper : public LogitsProcessor {
 public:
  explicit TopHLogitsWarper(double top_h);
  at::Tensor operator()(const at::Tensor& input_ids, const at::Tensor& scores) override;

 private:
  double top_h_;
};

/// Keeps the tokens whose information is nearest to the entropy of the distribution, until their probabilities sum to
/// `mass`.
class TypicalLogitsWarper : public LogitsProcessor {
 public:
  explicit TypicalLogitsWarper(double mass, int64_t min_tokens_to_keep = 1);
  at::Tensor operator()(const at::Tensor& input_ids, const at::Tensor& scores) override;

 private:
  double mass_;
  int64_t min_tokens_to_keep_;
};

/// Keeps tokens with a probability of at least `epsilon`.
class EpsilonLogitsWarper : public LogitsProcessor {
 public:
  explicit EpsilonLogitsWarper(double epsilon, int64_t min_tokens_to_keep = 1);
  at::Tensor operator()(const at::Tensor& input_ids, const at::Tensor& scores) override;

 private:
  double epsilon_;
  int64_t min_tokens_to_keep_;
};

/// Keeps tokens with a probability of at least min(epsilon, √epsilon · exp(−entropy)).
class EtaLogitsWarper : public LogitsProcessor {
 public:
  explicit EtaLogitsWarper(double epsilon, int64_t min_tokens_to_keep = 1);
  at::Tensor operator()(const at::Tensor& input_ids, const at::Tensor& scores) override;

 private:
  double epsilon_;
  int64_t min_tokens_to_keep_;
};

}  // namespace transformers
