#include "utils/data/token_frame.h"

#include <c10/util/Exception.h>

#include <algorithm>

#include "utils/text/utf8.h"

namespace transformers {
namespace {

constexpr std::string_view kSpace = "\xE2\x96\x81";  // U+2581, a space in the tokens of SentencePiece

bool is_continuation(char byte) { return (static_cast<unsigned char>(byte) & 0xC0) == 0x80; }

/// "<0x4F>" stands for one byte.
bool is_byte_token(std::string_view token) { return token.size() == 6 && token.starts_with("<0x"); }

bool has_spaces_of_sentencepiece(const std::vector<std::string>& tokens) {
  return std::any_of(tokens.begin(), tokens.end(), [](const std::string& token) {
    return is_byte_token(token) || token.find(kSpace) != std::string::npos;
  });
}

/// The number of bytes of text that a token stands for: byte-level tokenizers write each byte as a character.
size_t bytes_of(std::string_view token, bool of_sentencepiece) {
  if (!of_sentencepiece) {
    return static_cast<size_t>(std::count_if(token.begin(), token.end(), [](char b) { return !is_continuation(b); }));
  }
  if (is_byte_token(token)) {
    return 1;
  }
  auto bytes = token.size();
  for (auto at = token.find(kSpace); at != std::string_view::npos; at = token.find(kSpace, at + kSpace.size())) {
    bytes -= kSpace.size() - 1;
  }
  return bytes;
}

/// The range of characters that a part of a text touches; for an empty part, the character that follows.
std::pair<size_t, size_t> whole_characters(std::string_view text, size_t first, size_t end) {
  end = std::max(end, std::min(first + 1, text.size()));
  while (first > 0 && first < text.size() && is_continuation(text[first])) {
    --first;
  }
  while (end < text.size() && is_continuation(text[end])) {
    ++end;
  }
  return {first, end};
}

}  // namespace

TokenFrame TokenFrame::of(const Tokenizer& tokenizer) {
  TokenFrame frame;
  const auto bos = tokenizer.special_token_ids().bos;
  for (const auto id : tokenizer.encode("")) {
    (frame.after.empty() && id == bos ? frame.before : frame.after).push_back(id);
  }
  return frame;
}

std::vector<std::pair<size_t, size_t>> token_offsets(const Tokenizer& tokenizer, const std::vector<int64_t>& ids,
                                                     std::string_view text, const std::string& source) {
  std::vector<std::string> tokens;
  for (const auto id : ids) {
    tokens.push_back(tokenizer.id_to_token(id).value_or(""));
  }
  const bool of_sentencepiece = has_spaces_of_sentencepiece(tokens);
  size_t total = 0;
  for (const auto& token : tokens) {
    total += bytes_of(token, of_sentencepiece);
  }
  // SentencePiece puts a space before the text.
  const auto added = total - std::min(total, text.size());
  TORCH_CHECK(added <= (of_sentencepiece ? 1 : 0) && total == text.size() + added &&
                  tokenizer.decode(ids, /*skip_special_tokens=*/false) == text,
              source, ": the tokenizer does not give the text back, so that places in it are not known");
  std::vector<std::pair<size_t, size_t>> offsets;
  size_t place = 0;
  for (const auto& token : tokens) {
    const auto first = place;
    place += bytes_of(token, of_sentencepiece);
    offsets.push_back(whole_characters(text, first - std::min(first, added), place - std::min(place, added)));
  }
  return offsets;
}

}  // namespace transformers
