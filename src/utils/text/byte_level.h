#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace transformers::tokenization {

/// GPT-2's encoding of bytes as printable characters (`bytes_to_unicode` in HF): a space is Ġ, a newline is Ċ.
std::string bytes_to_characters(std::string_view bytes);

/// The inverse; nullopt when a character does not stand for a byte.
std::optional<std::string> characters_to_bytes(std::string_view valid_text);

/// The byte that a token of the form <0xE2> stands for in byte fallback.
std::optional<char> byte_of_token(std::string_view token);

}  // namespace transformers::tokenization
