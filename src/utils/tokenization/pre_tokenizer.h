#pragma once

#include <functional>
#include <string>
#include <vector>

#include "utils/tokenization/json_node.h"

namespace transformers::tokenization {

/// A piece of text for the model, and whether it begins the whole input.
struct Piece {
  std::string text;
  bool at_start;
};

/// Splits a piece into the words that the model gets one at a time.
using PreTokenizer = std::function<std::vector<Piece>(const Piece&)>;

/// The `pre_tokenizer` of a tokenizer.json: `Sequence`, `ByteLevel`, `Digits`, `Punctuation`, `Split`,
/// `Metaspace`.
PreTokenizer make_pre_tokenizer(const JsonNode& node);

/// `Sequence[Split(regex, Isolated), ByteLevel(use_regex=false)]`, the pre-tokenizer for rank files.
PreTokenizer make_regex_byte_level(const std::string& regex);

/// `ByteLevel` as in GPT-2.
PreTokenizer make_gpt2_byte_level(bool add_prefix_space);

/// The options of `Metaspace`, as a pre-tokenizer or a decoder.
struct Metaspace {
  enum class PrependScheme { kAlways, kFirst, kNever };
  std::string replacement;  // one character
  PrependScheme prepend_scheme;
};
Metaspace read_metaspace(const JsonNode& node);

}  // namespace transformers::tokenization
