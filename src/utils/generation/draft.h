#pragma once

#include "utils/generation/next_token_scorer.h"

namespace transformers {

/// Tokens that may follow a text.
struct Draft {
  at::Tensor ids;     // int64 [n]
  at::Tensor scores;  // fp32 [n, vocab], after processing, from which they were chosen; undefined: from none
};

/// Drafts tokens for the model to verify. Mirrors HF's `CandidateGenerator`
/// (generation/candidate_generator.py, transformers 5.23.0).
class Drafter {
 public:
  virtual ~Drafter() = default;
  /// text: int64 [1, seq]. May draft nothing.
  virtual Draft draft(const at::Tensor& text) = 0;
  /// How many tokens of the last draft the model accepted.
  virtual void learn(int64_t /*accepted*/) {}
};

/// Copies what followed an earlier occurrence of the text's last tokens. Mirrors `PromptLookupCandidateGenerator`.
class PromptLookup : public Drafter {
 public:
  PromptLookup(const GenerationPlan& plan, const PretrainedConfig& config) : plan_(plan), config_(config) {}
  Draft draft(const at::Tensor& text) override;

 private:
  std::vector<int64_t> continuation(const std::vector<int64_t>& ids, size_t ngram) const;
  std::vector<int64_t> allowed(const std::vector<int64_t>& ids, std::vector<int64_t> drafted) const;

  const GenerationPlan& plan_;
  const PretrainedConfig& config_;
};

/// Lets a smaller model of the same vocabulary continue the text. Mirrors `AssistedCandidateGenerator`, without its
/// search for a better confidence threshold.
class Assistant : public Drafter {
 public:
  Assistant(CausalLM& model, const GenerationPlan& plan, const std::optional<at::Generator>& generator);
  Draft draft(const at::Tensor& text) override;
  void learn(int64_t accepted) override;

 private:
  const GenerationPlan& plan_;
  std::optional<at::Generator> generator_;
  NextTokenScorer next_token_;
  int64_t num_tokens_;
};

}  // namespace transformers
