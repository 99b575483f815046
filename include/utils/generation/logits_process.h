#pragma once

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>
#include <transformers/export.h>
#include <transformers/utils/modeling/generation_config.h>

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
  /// input_ids: int64 [rows, seq], prompt and new tokens; scores: fp32 [rows, vocab]. Returns the new scores and leaves
  /// those given as they are.
  virtual at::Tensor operator()(const at::Tensor& input_ids, const at::Tensor& scores) = 0;
};

using TokenSequence = std::vector<int64_t>;
/// The tokens that the next one may be, given the row's number and its ids so far, int64 [seq].
using PrefixAllowedTokens = std::function<std::vector<int64_t>(int64_t row, const at::Tensor& ids)>;

/// Adds a bias to the last token of each sequence wherever the tokens before it match.
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

/// Forbids the last token of each sequence wherever the tokens before it match. A sequence that is nothing but an end
/// token is left out.
class NoBadWordsLogitsProcessor : public SequenceBiasLogitsProcessor {
 public:
  NoBadWordsLogitsProcessor(const std::vector<TokenSequence>& bad_words_ids, const std::vector<int64_t>& eos_token_id);
};

/// Every token that occurs: a negative score times the penalty, a positive one divided by it.
class RepetitionPenaltyLogitsProcessor : public LogitsProcessor {
 public:
  /// prompt_ignore_length: int64 [rows], how many tokens at a row's start (its padding) do not count; may be undefined.
  explicit RepetitionPenaltyLogitsProcessor(double penalty, at::Tensor prompt_ignore_length = {});
  at::Tensor operator()(const at::Tensor& input_ids, const at::Tensor& scores) override;

 private:
  double penalty_;
  at::Tensor prompt_ignore_length_;
};

/// No run of `ngram_size` tokens occurs twice; 1 forbids every token seen.
class NoRepeatNGramLogitsProcessor : public LogitsProcessor {
 public:
  explicit NoRepeatNGramLogitsProcessor(int64_t ngram_size);
  at::Tensor operator()(const at::Tensor& input_ids, const at::Tensor& scores) override;

 private:
  int64_t ngram_size_;
};

/// No end token before `min_length` tokens, the prompt included.
class MinLengthLogitsProcessor : public LogitsProcessor {
 public:
  MinLengthLogitsProcessor(int64_t min_length, std::vector<int64_t> eos_token_id);
  at::Tensor operator()(const at::Tensor& input_ids, const at::Tensor& scores) override;

 private:
  int64_t min_length_;
  std::vector<int64_t> eos_token_id_;
};

/// No end token before `min_new_tokens` tokens beyond the prompt.
class MinNewTokensLengthLogitsProcessor : public MinLengthLogitsProcessor {
 public:
  MinNewTokensLengthLogitsProcessor(int64_t prompt_length_to_skip, int64_t min_new_tokens,
                                    std::vector<int64_t> eos_token_id);
};

/// Only the tokens that a function allows. Where it allows none that is still possible in any beam of a row, the
/// allowed ones become possible again. Throws when the function returns an empty list.
class PrefixConstrainedLogitsProcessor : public LogitsProcessor {
 public:
  PrefixConstrainedLogitsProcessor(PrefixAllowedTokens prefix_allowed_tokens, int64_t num_beams);
  at::Tensor operator()(const at::Tensor& input_ids, const at::Tensor& scores) override;

 private:
  PrefixAllowedTokens prefix_allowed_tokens_;
  int64_t num_beams_;
};

/// The second token of a text can only be this one.
class ForcedBOSTokenLogitsProcessor : public LogitsProcessor {
 public:
  explicit ForcedBOSTokenLogitsProcessor(int64_t bos_token_id) : bos_token_id_{bos_token_id} {}
  at::Tensor operator()(const at::Tensor& input_ids, const at::Tensor& scores) override;

 private:
  std::vector<int64_t> bos_token_id_;
};

/// The token that reaches `max_length` can only be one of these.
class ForcedEOSTokenLogitsProcessor : public LogitsProcessor {
 public:
  ForcedEOSTokenLogitsProcessor(int64_t max_length, std::vector<int64_t> eos_token_id);
  at::Tensor operator()(const at::Tensor& input_ids, const at::Tensor& scores) override;

 private:
  int64_t max_length_;
  std::vector<int64_t> eos_token_id_;
};

/// NaN becomes 0, infinities the largest and smallest numbers.
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

/// Raises the scores of tokens that a keyed hash of the text before prefers; for detection see the paper
/// arXiv 2306.04634. The hash runs on the CPU, so that a text is marked alike on every device.
class WatermarkLogitsProcessor : public LogitsProcessor {
 public:
  WatermarkLogitsProcessor(int64_t vocab_size, const WatermarkingConfig& config);
  at::Tensor operator()(const at::Tensor& input_ids, const at::Tensor& scores) override;

 private:
  /// text: int64 [seq] on the CPU. Preferred tokens, int64 [n].
  at::Tensor greenlist(const at::Tensor& text);
  /// Those of the best tokens that are preferred when they are the text's last themselves.
  at::Tensor self_hashed_greenlist(const at::Tensor& text, const at::Tensor& scores);

  int64_t vocab_size_;
  WatermarkingConfig config_;
  at::Generator generator_;
  at::Tensor fixed_table_;  // int64 [1000003], a permutation
};

/// Scores become log-probabilities.
class LogitNormalization : public LogitsProcessor {
 public:
  at::Tensor operator()(const at::Tensor& input_ids, const at::Tensor& scores) override;
};

// What follows shapes the distribution that is sampled from: tokens that are left out get −inf, and at least
// `min_tokens_to_keep` of the best stay.

/// Scores divided by the temperature.
class TemperatureLogitsWarper : public LogitsProcessor {
 public:
  explicit TemperatureLogitsWarper(double temperature);
  at::Tensor operator()(const at::Tensor& input_ids, const at::Tensor& scores) override;

 private:
  double temperature_;
};

/// The k best tokens; those that tie with the k-th stay too. k above the vocabulary keeps all.
class TopKLogitsWarper : public LogitsProcessor {
 public:
  explicit TopKLogitsWarper(int64_t top_k, int64_t min_tokens_to_keep = 1);
  at::Tensor operator()(const at::Tensor& input_ids, const at::Tensor& scores) override;

 private:
  int64_t top_k_;
};

/// The smallest set of best tokens that holds the probability `top_p`.
class TopPLogitsWarper : public LogitsProcessor {
 public:
  explicit TopPLogitsWarper(double top_p, int64_t min_tokens_to_keep = 1);
  at::Tensor operator()(const at::Tensor& input_ids, const at::Tensor& scores) override;

 private:
  double top_p_;
  int64_t min_tokens_to_keep_;
};

/// Tokens whose probability is at least `min_p` times the largest.
class MinPLogitsWarper : public LogitsProcessor {
 public:
  explicit MinPLogitsWarper(double min_p, int64_t min_tokens_to_keep = 1);
  at::Tensor operator()(const at::Tensor& input_ids, const at::Tensor& scores) override;

 private:
  double min_p_;
  int64_t min_tokens_to_keep_;
};

/// Of the best 100 tokens the first ones, while their entropy adds up to at most `top_h` times the entropy of all 100.
class TopHLogitsWarper : public LogitsProcessor {
 public:
  explicit TopHLogitsWarper(double top_h);
  at::Tensor operator()(const at::Tensor& input_ids, const at::Tensor& scores) override;

 private:
  double top_h_;
};

/// Tokens as surprising as the distribution is on average, until they hold the probability `mass`.
class TypicalLogitsWarper : public LogitsProcessor {
 public:
  explicit TypicalLogitsWarper(double mass, int64_t min_tokens_to_keep = 1);
  at::Tensor operator()(const at::Tensor& input_ids, const at::Tensor& scores) override;

 private:
  double mass_;
  int64_t min_tokens_to_keep_;
};

/// Tokens with a probability of at least `epsilon`.
class EpsilonLogitsWarper : public LogitsProcessor {
 public:
  explicit EpsilonLogitsWarper(double epsilon, int64_t min_tokens_to_keep = 1);
  at::Tensor operator()(const at::Tensor& input_ids, const at::Tensor& scores) override;

 private:
  double epsilon_;
  int64_t min_tokens_to_keep_;
};

/// Tokens with a probability of at least min(epsilon, √epsilon · exp(−entropy)).
class EtaLogitsWarper : public LogitsProcessor {
 public:
  explicit EtaLogitsWarper(double epsilon, int64_t min_tokens_to_keep = 1);
  at::Tensor operator()(const at::Tensor& input_ids, const at::Tensor& scores) override;

 private:
  double epsilon_;
  int64_t min_tokens_to_keep_;
};

}  // namespace transformers
