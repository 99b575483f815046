#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace transformers::tokenization {

inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";  // U+FFFD

/// The text with each ill-formed part replaced by U+FFFD, one for each maximal subpart as Unicode recommends and as
/// Rust's `from_utf8_lossy` and Python's `errors="replace"` do.
std::string valid_utf8(std::string_view bytes);

bool is_valid_utf8(std::string_view bytes);

/// Length of the prefix of `bytes` that later bytes cannot change: everything except an unfinished character at the
/// end.
size_t finished_length(std::string_view bytes);

struct Character {
  char32_t code;
  size_t length;  // bytes
};

/// The first character of a valid text that is not empty.
Character first_character(std::string_view valid_text);
/// The last character of a valid text that is not empty.
Character last_character(std::string_view valid_text);

void append_utf8(std::string& text, char32_t code);

/// Unicode classes as Rust has them: general category N*, P* or ASCII's punctuation, the property White_Space, and the
/// regex crate's `\w`.
bool is_numeric(char32_t code);
bool is_punctuation(char32_t code);
bool is_whitespace(char32_t code);
bool is_word(char32_t code);

}  // namespace transformers::tokenization
