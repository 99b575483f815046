#include "utils/text/byte_level.h"

#include <array>
#include <charconv>

#include "utils/text/utf8.h"

namespace transformers::tokenization {
namespace {

constexpr char32_t kFirstShifted = 0x100;
constexpr size_t kCharacters = kFirstShifted + 68;  // 68 bytes are not printable

struct Table {
  std::array<char32_t, 256> character_of_byte{};
  std::array<int, kCharacters> byte_of_character{};
};

constexpr bool is_printable(int byte) {
  return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || (byte >= 0xAE && byte <= 0xFF);
}

constexpr Table make_table() {
  Table table;
  table.byte_of_character.fill(-1);
  char32_t shifted = kFirstShifted;
  for (int byte = 0; byte < 256; ++byte) {
    const char32_t character = is_printable(byte) ? static_cast<char32_t>(byte) : shifted++;
    table.character_of_byte[byte] = character;
    table.byte_of_character[character] = byte;
  }
  return table;
}

constexpr Table kTable = make_table();

}  // namespace

std::string bytes_to_characters(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size());
  for (const char byte : bytes) {
    const char32_t code = kTable.character_of_byte[static_cast<unsigned char>(byte)];
    if (code < 0x80) {
      text += static_cast<char>(code);
    } else {
      append_utf8(text, code);
    }
  }
  return text;
}

std::optional<std::string> characters_to_bytes(std::string_view valid_text) {
  std::string bytes;
  while (!valid_text.empty()) {
    const auto [code, length] = first_character(valid_text);
    if (code >= kCharacters || kTable.byte_of_character[code] < 0) {
      return std::nullopt;
    }
    bytes += static_cast<char>(kTable.byte_of_character[code]);
    valid_text.remove_prefix(length);
  }
  return bytes;
}

std::optional<char> byte_of_token(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || !token.ends_with('>')) {
    return std::nullopt;
  }
  unsigned byte = 0;
  const char* end = token.data() + 5;
  const auto result = std::from_chars(token.data() + 3, end, byte, 16);
  return result.ec == std::errc() && result.ptr == end ? std::optional(static_cast<char>(byte)) : std::nullopt;
}

}  // namespace transformers::tokenization
