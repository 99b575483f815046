#include "utils/text/base64.h"

#include <cstdint>

namespace transformers::tokenization {

std::optional<std::string> decode_base64(std::string_view text) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  if (text.size() % 4 != 0) {
    return std::nullopt;
  }
  const size_t padding = text.ends_with("==") ? 2 : text.ends_with('=') ? 1 : 0;
  std::string bytes;
  for (size_t at = 0; at < text.size(); at += 4) {
    uint32_t group = 0;
    for (size_t i = at; i < at + 4; ++i) {
      const auto digit = i >= text.size() - padding ? 0 : kDigits.find(text[i]);
      if (digit == std::string_view::npos) {
        return std::nullopt;
      }
      group = group << 6 | static_cast<uint32_t>(digit);
    }
    for (const int shift : {16, 8, 0}) {
      bytes += static_cast<char>(group >> shift & 0xFF);
    }
  }
  bytes.resize(bytes.size() - padding);
  return bytes;
}

}  // namespace transformers::tokenization
