#pragma once

#include <transformers/utils/tokenization/tokenizer.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace transformers {

/// The special tokens that a tokenizer adds before and after every text.
struct TokenFrame {
  std::vector<int64_t> before{}, after{};

  static TokenFrame of(const Tokenizer& tokenizer);
};

/// For each token the bytes of the text that it stands for, [first, end). If several tokens form one character, each
/// has all its bytes. Throws, beginning with `source`, when the tokens do not decode to the text.
std::vector<std::pair<size_t, size_t>> token_offsets(const Tokenizer& tokenizer, const std::vector<int64_t>& ids,
                                                     std::string_view text, const std::string& source);

}  // namespace transformers
