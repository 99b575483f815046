#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "utils/tokenization/json_node.h"
#include "utils/tokenization/normalizer.h"

namespace transformers::tokenization {

/// A token that is looked for in the text before anything else is done with it. Mirrors HF `AddedToken`.
struct AddedToken {
  int64_t id;
  std::string content;
  bool single_word = false, lstrip = false, rstrip = false, normalized = false, special = false;
};

/// An entry of `added_tokens` in tokenizer.json or of `added_tokens_decoder` in tokenizer_config.json.
AddedToken read_added_token(const JsonNode& node, int64_t id);

/// Finds the longest of many texts at a place.
class TextTrie {
 public:
  void insert(std::string_view text, size_t value);

  struct Match {
    size_t length;
    size_t value;
  };
  /// The longest inserted text that `text` begins with; length 0 when there is none.
  Match longest_at(std::string_view text) const;

 private:
  std::unordered_map<uint64_t, uint64_t> children_;  // node << 8 | byte -> node
  std::unordered_map<uint64_t, size_t> values_;      // node -> value
  std::array<bool, 256> first_bytes_{};
  uint64_t nodes_ = 1;
};

/// The tokens of a tokenizer that stand beside the model's vocabulary. Mirrors HF `AddedVocabulary`.
class AddedTokens {
 public:
  /// `normalizer` may be empty.
  AddedTokens(std::vector<AddedToken> tokens, const Normalizer& normalizer);

  struct Segment {
    std::string_view text;
    const AddedToken* token;  // null: plain text
  };
  /// Cuts a text at the tokens that match it. `normalized` chooses between tokens that are looked for in the normalized
  /// text and those that are looked for in the raw one; special tokens stay plain text unless `parse_special`.
  std::vector<Segment> split(std::string_view text, bool normalized, bool parse_special) const;

  const std::vector<AddedToken>& tokens() const { return tokens_; }
  const AddedToken* find(int64_t id) const;
  const AddedToken* find(const std::string& content) const;
  /// What the decoder is given for a token: its content as the normalizer leaves it.
  const std::string& decoder_text(const AddedToken& token) const;
  bool is_special(const std::string& content) const { return special_contents_.contains(content); }

 private:
  std::vector<AddedToken> tokens_;
  std::vector<std::string> patterns_;  // beside tokens_: what is looked for
  std::unordered_map<int64_t, size_t> by_id_;
  std::unordered_map<std::string, size_t> by_content_;
  std::unordered_set<std::string> special_contents_;
  TextTrie raw_, normalized_;
};

}  // namespace transformers::tokenization
