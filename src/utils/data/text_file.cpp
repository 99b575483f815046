#include "utils/data/text_file.h"

#include <c10/util/Exception.h>

#include <algorithm>

#include "utils/files/internal/regular_file.h"
#include "utils/text/foreign_format.h"
#include "utils/text/printable.h"

namespace transformers {
namespace {

constexpr size_t kMostBytes = size_t{64} << 30;

using Ids = std::vector<int64_t>;

bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
bool is_plain(char c) { return static_cast<unsigned char>(c) < 0x80 && !is_space(c); }

/// Whether the ids on both sides of `place` equal those of the text around it. A side with very few tokens proves
/// nothing: its characters may be unknown and omitted, so that its neighbours become adjacent.
bool cuts_at(const Tokenizer& tokenizer, std::string_view text, size_t place) {
  constexpr size_t kAround = 256, kFewestTokens = 16;
  const auto from = text.rfind('\n', place - std::min(place, kAround)) + 1;  // 0 where there is none
  const auto left = text.substr(from, place - from),
             right = text.substr(place, text.find('\n', place + kAround) - place);
  auto apart = tokenizer.encode(left, /*add_special_tokens=*/false);
  const auto rest = tokenizer.encode(right, /*add_special_tokens=*/false);
  if (apart.size() < kFewestTokens || rest.size() < kFewestTokens) {
    return false;
  }
  apart.insert(apart.end(), rest.begin(), rest.end());
  return apart == tokenizer.encode(std::string(left) + std::string(right), /*add_special_tokens=*/false);
}

/// The position after the last line break at which the text may be cut; 0 if there is none near its end.
size_t last_cut(const Tokenizer& tokenizer, std::string_view text) {
  constexpr int kTries = 8;
  auto end = text.size();
  for (int tries = 0; tries < kTries && end > 1;) {
    const auto line_break = text.rfind('\n', end - 1);
    if (line_break == std::string_view::npos || line_break == 0) {
      break;
    }
    end = line_break;
    if (line_break + 1 < text.size() && is_plain(text[line_break - 1]) && is_plain(text[line_break + 1])) {
      if (cuts_at(tokenizer, text, line_break + 1)) {
        return line_break + 1;
      }
      ++tries;
    }
  }
  return 0;
}

/// What the tokenizer puts around every text.
std::pair<Ids, Ids> special_tokens_around(const Tokenizer& tokenizer) {
  const auto around = tokenizer.encode("a"), plain = tokenizer.encode("a", /*add_special_tokens=*/false);
  const auto middle = std::search(around.begin(), around.end(), plain.begin(), plain.end());
  return {{around.begin(), middle}, {middle + static_cast<int64_t>(plain.size()), around.end()}};
}

/// The number of bytes of the complete UTF-8 character at the front of `text`; 0 if there is none.
size_t valid_character(std::string_view text) {
  const auto first = static_cast<unsigned char>(text.front());
  const size_t length = first < 0x80 ? 1 : first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : first >= 0xC2 ? 2 : 0;
  if (first == 0 || first > 0xF4 || length == 0 || length > text.size()) {
    return 0;
  }
  const auto rest = text.substr(1, length - 1);
  const bool whole = std::all_of(rest.begin(), rest.end(), [](char c) { return (c & 0xC0) == 0x80; });
  return whole ? length : 0;
}

}  // namespace

void check_is_text(const std::string& path) {
  const RegularFile file(path);
  const auto head = file.read(0, std::min(file.size(), size_t{64} << 10));
  const auto foreign = foreign_format_note(head);
  TORCH_CHECK(foreign.empty(), printable(path), ": is no text", foreign);
  TORCH_CHECK(head.find('\0') == std::string::npos, printable(path), ": is no text: byte ", head.find('\0'), " is 0");
  size_t strange = 0;  // bytes that belong to no character; a text may have some of them
  for (size_t at = 0; at < head.size();) {
    const auto length = valid_character(std::string_view(head).substr(at));
    strange += length == 0 ? 1 : 0;
    at += std::max<size_t>(length, 1);
  }
  TORCH_CHECK(strange <= head.size() / 4, printable(path), ": is no text in UTF-8: ", strange, " of the first ",
              head.size(), " bytes belong to no character");
}

std::vector<int32_t> encode_text_file(const std::string& path, const Tokenizer& tokenizer, size_t piece_bytes) {
  const RegularFile file(path);
  TORCH_CHECK(file.size() <= kMostBytes, printable(path), ": a text may have ", kMostBytes, " bytes, this one has ",
              file.size());
  std::vector<int32_t> ids;
  const auto append = [&ids](const Ids& more) { ids.insert(ids.end(), more.begin(), more.end()); };
  const auto [prefix, suffix] = special_tokens_around(tokenizer);
  append(prefix);
  // If line breaks are omitted, they separate nothing.
  const bool has_line_breaks = !tokenizer.encode("\n", /*add_special_tokens=*/false).empty();
  std::string text;
  for (size_t offset = 0; offset < file.size(); offset += piece_bytes) {
    text += file.read(offset, std::min(piece_bytes, file.size() - offset));
    if (const auto cut = has_line_breaks ? last_cut(tokenizer, text) : 0; cut > 0) {
      append(tokenizer.encode(std::string_view(text).substr(0, cut), /*add_special_tokens=*/false));
      text.erase(0, cut);
    }
  }
  append(tokenizer.encode(text, /*add_special_tokens=*/false));
  append(suffix);
  return ids;
}

}  // namespace transformers
