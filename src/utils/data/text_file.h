#pragma once

#include <transformers/utils/tokenization/tokenizer.h>

#include <cstdint>
#include <string>
#include <vector>

namespace transformers {

/// Throws when the first 64 KiB of a file are not text, as training on binary data would go unnoticed.
void check_is_text(const std::string& path);

/// `tokenizer.encode` of a whole text file, which is read piece by piece. A piece ends at a line break at which the
/// tokenizer splits anyway, so that the ids on both sides do not depend on each other. If the tokenizer never splits at
/// line breaks, it gets the whole text.
std::vector<int32_t> encode_text_file(const std::string& path, const Tokenizer& tokenizer,
                                      size_t piece_bytes = size_t{1} << 20);

}  // namespace transformers
