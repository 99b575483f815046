#include "utils/text/printable.h"

#include <algorithm>
#include <array>
#include <cstdint>

namespace transformers {
namespace {

constexpr size_t kMaxCharacters = 200, kMaxLineCharacters = 20'000, kMaxNames = 100;

struct Character {
  uint32_t code = 0;
  size_t length = 0;  // 0: not valid UTF-8
};

bool is_continuation(char byte) { return (static_cast<uint8_t>(byte) & 0xC0) == 0x80; }

Character first_character(std::string_view text) {
  // Smallest code point that needs one, two, three, four bytes: anything below is an overlong form.
  constexpr std::array<uint32_t, 4> kSmallest{0, 0x80, 0x800, 0x10000};
  if (text.empty()) {
    return {};
  }
  const auto lead = static_cast<uint8_t>(text[0]);
  const size_t length = lead < 0x80 ? 1 : lead < 0xC0 ? 0 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : lead < 0xF8 ? 4 : 0;
  if (length == 0 || length > text.size()) {
    return {};
  }
  uint32_t code = length == 1 ? lead : lead & (0xFFU >> (length + 1));
  for (size_t i = 1; i < length; ++i) {
    if (!is_continuation(text[i])) {
      return {};
    }
    code = code << 6 | (static_cast<uint8_t>(text[i]) & 0x3FU);
  }
  const bool surrogate = code >= 0xD800 && code <= 0xDFFF;
  return code < kSmallest[length - 1] || code > 0x10FFFF || surrogate ? Character{} : Character{code, length};
}

struct CodeRange {
  uint32_t first, last;
};

// Characters that move the cursor, reorder the text around them, or take no place at all: controls, and what Unicode
// calls format characters.
constexpr std::array<CodeRange, 16> kUnsafe{{{0x00, 0x1F},
                                             {0x7F, 0x9F},
                                             {0xAD, 0xAD},
                                             {0x600, 0x605},
                                             {0x61C, 0x61C},
                                             {0x6DD, 0x6DD},
                                             {0x70F, 0x70F},
                                             {0x180E, 0x180E},
                                             {0x200B, 0x200F},
                                             {0x2028, 0x202E},
                                             {0x2060, 0x206F},
                                             {0xFEFF, 0xFEFF},
                                             {0xFFF9, 0xFFFB},
                                             {0x1BCA0, 0x1BCA3},
                                             {0x1D173, 0x1D17A},
                                             {0xE0000, 0xE0FFF}}};

bool is_unsafe(uint32_t code) {
  return std::ranges::any_of(kUnsafe,
                             [&](const CodeRange& range) { return range.first <= code && code <= range.last; });
}

std::string escaped(std::string_view bytes) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  for (const char byte : bytes) {
    const auto value = static_cast<uint8_t>(byte);
    text += {'\\', 'x', kDigits[value >> 4], kDigits[value & 0xF]};
  }
  return text;
}

}  // namespace

size_t utf8_length(std::string_view text) { return first_character(text).length; }

namespace {

std::string escaped_and_cut(std::string_view untrusted, size_t max_characters) {
  std::string text;
  for (size_t count = 0; !untrusted.empty(); ++count) {
    if (count == max_characters) {
      return text + "...";
    }
    const auto character = first_character(untrusted);
    const auto bytes = untrusted.substr(0, std::max<size_t>(character.length, 1));
    text += character.length == 0 || is_unsafe(character.code) ? escaped(bytes) : std::string(bytes);
    untrusted.remove_prefix(bytes.size());
  }
  return text;
}

}  // namespace

std::string printable(std::string_view untrusted) { return escaped_and_cut(untrusted, kMaxCharacters); }

std::string printable_line(std::string_view message) {
  std::string line(message.substr(0, kMaxLineCharacters * 4));
  std::ranges::replace(line, '\n', ' ');
  return escaped_and_cut(line, kMaxLineCharacters);
}

std::vector<std::string> printable_names(const std::vector<std::string>& untrusted) {
  std::vector<std::string> names;
  for (const auto& name : untrusted) {
    if (names.size() == kMaxNames) {
      names.push_back("and " + std::to_string(untrusted.size() - kMaxNames) + " more");
      break;
    }
    names.push_back(printable(name));
  }
  return names;
}

std::string printable_list(const std::vector<std::string>& untrusted) {
  std::string text;
  for (const auto& name : printable_names(untrusted)) {
    text += (text.empty() ? "" : ", ") + name;
  }
  return text;
}

}  // namespace transformers
