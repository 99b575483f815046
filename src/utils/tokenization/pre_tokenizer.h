#pragma once

#include <functional>
#include <string>
#include <vector>

#include "utils/tokenization/json_node.h"

namespace transformers::tokenization {

/// A stretch of text on its way to the model, and whether it begins the whole input.
struct Piece {
  std::string text;
  bool at_start;
};

/// Cuts a piece into the words that the model sees one at a time.
using PreTokenizer = std::function<std::vector<Piece>(const Piece&)>;

/// The `pre_tokenizer` of a tokenizer.json: `Sequence`, `ByteLevel`, `Digits`, `Punctuation`, `Split`,
/// `Metaspace`.
PreTokenizer make_pre_tokenizer(const JsonNode& node);

/// `Sequence[Split(regex, Isolated), ByteLevel(use_regex=false)]`, the form that rank files go with.
PreTokenizer make_regex_byte_level(const std::string& regex);

/// `ByteLevel` as GPT-2 has it.
PreTokenizer make_gpt2_byte_level(bool add_prefix_space);

/// `Metaspace`, as a pre-tokenizer or a decoder.
struct Metaspace {
  enum class PrependScheme { kAlways, kFirst, kNever };
  std::string replacement;  // one character
  PrependScheme prepend_scheme;
};
Metaspace read_metaspace(const JsonNode& node);

}  // namespace transformers::tokenization
