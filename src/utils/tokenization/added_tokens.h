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

/// A token that is looked for in the text before anything else is done with it. Mirrors HF `AddedToken`.
struct AddedToken {
  int64_t id;
  std::string content;
  bool single_word = false, lstrip = false, rstrip = false, normalized = false, special = false;

  bool operator==(const AddedToken&) const = default;
};

/// The same text, looked for in the same way, whatever the id.
bool is_same_token(const AddedToken& a, AddedToken b);

/// An entry of `added_tokens` in tokenizer.json or of `added_tokens_decoder` in tokenizer_config.json.
AddedToken read_added_token(const JsonNode& node, int64_t id);

/// The tokens of a tokenizer that stand beside the model's vocabulary. Mirrors HF `AddedVocabulary`.
class AddedTokens {
 public:
  /// `normalizer` may be empty.
  AddedTokens(std::vector<AddedToken> tokens, const Normalizer& normalizer);

  struct Segment {
    std::string_view text;
    const AddedToken* token;  // null: plain text
  };
  /// Whether a token that stands in a text is read as that token rather than as plain text.
  using IsRead = std::function<bool(const AddedToken&)>;
  static bool is_read_always(const AddedToken& /*token*/) { return true; }
  /// For the texts of a prompt: no special token, and none that the prompt itself uses, so that a text which spells one
  /// cannot pass for it. The result refers to this object.
  IsRead writable_beside(const std::vector<PromptPart>& parts) const;
  /// Cuts a text at the tokens that match it. `normalized` chooses between tokens that are looked for in the normalized
  /// text and those that are looked for in the raw one.
  std::vector<Segment> split(std::string_view text, bool normalized, const IsRead& is_read) const;

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
