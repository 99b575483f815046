#include "utils/tokenization/rank_file.h"

#include "fuzz/target.h"

namespace transformers::fuzz {
namespace {

/// "AA== 0" to "/w== 255": each byte is a token, as every file must have them.
std::string single_bytes() {
  const std::string digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string lines;
  for (size_t byte = 0; byte < 256; ++byte) {
    lines += {digits[byte >> 2], digits[(byte & 3) << 4], '=', '='};
    lines += " " + std::to_string(byte) + "\n";
  }
  return lines;
}

}  // namespace

std::vector<std::string> seeds() { return {single_bytes() + "aGU= 256\r\nbGw= 257\naGVsbA== 258\nIGhlbGw= 300\n"}; }

void try_input(std::string_view input) {
  tokenization::looks_like_rank_file(input);
  tokenization::make_bpe_from_ranks(input, "input");
}

}  // namespace transformers::fuzz
