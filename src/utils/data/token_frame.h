#pragma once

#include <transformers/utils/tokenization/tokenizer.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace transformers {

/// The special tokens that a tokenizer puts before and after every text.
struct TokenFrame {
  std::vector<int64_t> before{}, after{};

  static TokenFrame of(const Tokenizer& tokenizer);
};

/// Of each token the bytes of the text it stands for, [first, end); the tokens of one character all have the whole of
/// it. Throws, beginning with `source`, when the tokens do not give the text back.
std::vector<std::pair<size_t, size_t>> token_offsets(const Tokenizer& tokenizer, const std::vector<int64_t>& ids,
                                                     std::string_view text, const std::string& source);

}  // namespace transformers
