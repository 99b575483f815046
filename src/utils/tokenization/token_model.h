#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "utils/tokenization/json_node.h"

namespace transformers::tokenization {

/// Allows looking up a string_view in a map with string keys.
struct TextHash {
  using is_transparent = void;
  size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
};
template <typename Value>
using TextMap = std::unordered_map<std::string, Value, TextHash, std::equal_to<>>;

/// Splits one word into tokens. Thread-safe. Mirrors HF `models.Model`.
class TokenModel {
 public:
  virtual ~TokenModel() = default;
  /// Appends the ids of a word (valid text).
  virtual void tokenize(std::string_view word, std::vector<int64_t>& ids) const = 0;
  virtual size_t vocab_size() const = 0;
  virtual std::optional<int64_t> token_to_id(std::string_view token) const = 0;
  /// Null when the id is unknown.
  virtual const std::string* id_to_token(int64_t id) const = 0;
  virtual std::optional<std::string> unk_token() const = 0;
};

/// The token of a byte in byte fallback, e.g. <0xE2>.
std::string byte_token(unsigned char byte);

/// The `model` of a tokenizer.json: `BPE` or `Unigram`.
std::unique_ptr<TokenModel> make_token_model(const JsonNode& node);

}  // namespace transformers::tokenization
