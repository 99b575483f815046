#include "utils/json/printable.h"

#include <algorithm>
#include <array>
#include <cstdint>

namespace transformers {
namespace {

constexpr size_t kMaxCharacters = 200;

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

/// Characters that would move the cursor or reorder the text around them.
bool is_unsafe(uint32_t code) {
  return code < 0x20 || (code >= 0x7F && code < 0xA0) || (code >= 0x200B && code <= 0x200F) ||
         (code >= 0x2028 && code <= 0x202E) || (code >= 0x2060 && code <= 0x2069) || code == 0xFEFF;
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

std::string printable(std::string_view untrusted) {
  std::string text;
  for (size_t count = 0; !untrusted.empty(); ++count) {
    if (count == kMaxCharacters) {
      return text + "...";
    }
    const auto character = first_character(untrusted);
    const auto bytes = untrusted.substr(0, std::max<size_t>(character.length, 1));
    text += character.length == 0 || is_unsafe(character.code) ? escaped(bytes) : std::string(bytes);
    untrusted.remove_prefix(bytes.size());
  }
  return text;
}

}  // namespace transformers
