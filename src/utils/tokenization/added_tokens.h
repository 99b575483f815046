#pragma once

#include <transformers/utils/tokenization/tokenizer.h>

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "utils/text/text_trie.h"
#include "utils/tokenization/json_node.h"
#include "utils/tokenization/normalizer.h"

namespace transformers::tokenization {

/// A token that is searched for in the text before any other processing. Mirrors HF `AddedToken`.
struct AddedToken {
  int64_t id;
  std::string content;
  bool single_word = false, lstrip = false, rstrip = false, normalized = false, special = false;

  bool operator==(const AddedToken&) const = default;
};

/// Whether two tokens have the same text and are searched for in the same way, whatever their ids.
bool is_same_token(const AddedToken& a, AddedToken b);

/// An entry of `added_tokens` in tokenizer.json or of `added_tokens_decoder` in tokenizer_config.json.
AddedToken read_added_token(const JsonNode& node, int64_t id);

/// The tokens of a tokenizer in addition to the model's vocabulary. Mirrors HF `AddedVocabulary`.
class AddedTokens {
 public:
  /// `normalizer` may be empty.
  AddedTokens(std::vector<AddedToken> tokens, const Normalizer& normalizer);

  struct Segment {
    std::string_view text;
    const AddedToken* token;  // null: plain text
  };
  /// Whether a token that is written in a text is read as that token rather than as plain text.
  using IsRead = std::function<bool(const AddedToken&)>;
  static bool is_read_always(const AddedToken& /*token*/) { return true; }
  /// For the texts of a prompt: rejects special tokens and those that the prompt itself uses, so that a text cannot
  /// forge them. The result refers to this object.
  IsRead writable_beside(const std::vector<PromptPart>& parts) const;
  /// Splits a text at the tokens that it contains. `normalized` selects the tokens that are searched for in the
  /// normalized text; otherwise those for the raw text.
  std::vector<Segment> split(std::string_view text, bool normalized, const IsRead& is_read) const;

  const std::vector<AddedToken>& tokens() const { return tokens_; }
  const AddedToken* find(int64_t id) const;
  const AddedToken* find(const std::string& content) const;
  /// The text of a token for the decoder: its normalized content.
  const std::string& decoder_text(const AddedToken& token) const;
  bool is_special(const std::string& content) const { return special_contents_.contains(content); }

 private:
  std::vector<AddedToken> tokens_;
  std::vector<std::string> patterns_;  // parallel to tokens_: the text to search for
  std::unordered_map<int64_t, size_t> by_id_;
  std::unordered_map<std::string, size_t> by_content_;
  std::unordered_set<std::string> special_contents_;
  TextTrie raw_, normalized_;
};

}  // namespace transformers::tokenization
