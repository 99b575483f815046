#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "utils/text/text_trie.h"
#include "utils/tokenization/json_node.h"
#include "utils/tokenization/token_model.h"

namespace transformers::tokenization {

/// Splits a word into the pieces whose scores (log-probabilities) have the largest sum; consecutive unknown characters
/// form one piece. Mirrors HF `models.Unigram`.
class Unigram : public TokenModel {
 public:
  /// pieces: the pieces with their scores, by id. `source` begins error messages.
  Unigram(std::vector<std::pair<std::string, double>> pieces, std::optional<int64_t> unk_id, bool byte_fallback,
          const std::string& source);

  void tokenize(std::string_view word, std::vector<int64_t>& ids) const override;
  size_t vocab_size() const override { return pieces_.size(); }
  std::optional<int64_t> token_to_id(std::string_view token) const override;
  const std::string* id_to_token(int64_t id) const override;
  std::optional<std::string> unk_token() const override;

 private:
  /// The last piece of the best split of a prefix of the text.
  struct Step {
    int64_t id = 0;
    double score = 0.0;
    std::optional<size_t> begin;
  };
  std::vector<Step> best_steps(std::string_view word) const;
  std::vector<std::string_view> best_pieces(std::string_view word) const;
  int64_t unknown_id() const;
  bool add_bytes(std::string_view text, std::vector<int64_t>& ids) const;

  std::vector<std::pair<std::string, double>> pieces_;
  TextMap<int64_t> ids_;
  TextTrie trie_;
  std::optional<int64_t> unk_id_;
  bool byte_fallback_;
  double lowest_score_;
  std::string source_;
};

/// A `model` of tokenizer.json that is Unigram.
std::unique_ptr<Unigram> make_unigram(const JsonNode& node);

}  // namespace transformers::tokenization
