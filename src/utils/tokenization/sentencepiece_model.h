#pragma once

#include <string>
#include <string_view>

namespace transformers::tokenization {

/// Throws unless `model` (the bytes of a SentencePiece ModelProto) can safely be passed to the library: message lengths
/// are within the file, scores are finite, and the table of character rewrites never points outside itself, which the
/// library does not check.
void check_sentencepiece_model(std::string_view model, const std::string& source);

/// The same for the table alone, which tokenizer.json can hold too; an empty text stands for no table.
void check_charsmap(std::string_view map, const std::string& source);

}  // namespace transformers::tokenization
