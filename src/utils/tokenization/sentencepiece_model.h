#pragma once

#include <string>
#include <string_view>

namespace transformers::tokenization {

/// Throws unless `model` (the bytes of a SentencePiece ModelProto) can safely be handed to the library: message lengths
/// stay inside the file, scores are finite, and the table of character rewrites never points outside itself, which the
/// library takes on trust.
void check_sentencepiece_model(std::string_view model, const std::string& source);

/// The same for that table alone, which tokenizer.json can hold too; an empty one is none.
void check_charsmap(std::string_view map, const std::string& source);

}  // namespace transformers::tokenization
