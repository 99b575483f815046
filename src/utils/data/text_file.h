#pragma once

#include <transformers/utils/tokenization/tokenizer.h>

#include <cstdint>
#include <string>
#include <vector>

namespace transformers {

/// Throws when a file is something else than a text, by its first 64 KiB: learning its bytes would go unnoticed.
void check_is_text(const std::string& path);

/// `tokenizer.encode` of a whole text file, which is read piece by piece. A piece ends at a line break that the
/// tokenizer cuts at anyway: the ids around it are those of the two sides. A tokenizer that cuts nowhere gets the whole
/// text.
std::vector<int32_t> encode_text_file(const std::string& path, const Tokenizer& tokenizer,
                                      size_t piece_bytes = size_t{1} << 20);

}  // namespace transformers
