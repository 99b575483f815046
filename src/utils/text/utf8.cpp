// UTF-8 decoding and Unicode classes. Ill-formed input is split into maximal subparts as Unicode recommends; categories
// come from utf8proc.
#include "utils/text/utf8.h"

#include <utf8proc.h>

#include <array>

namespace transformers::tokenization {
namespace {

enum class Form { kValid, kInvalid, kUnfinished };

struct Sequence {
  size_t length;
  Form form;
};

/// The range that the second byte of a character must lie in, and how many bytes follow the first (0: no lead byte).
struct Lead {
  int following;
  unsigned char low = 0x80, high = 0xBF;
};

Lead lead_of(unsigned char byte) {
  if (byte >= 0xC2 && byte <= 0xDF) {
    return {1};
  }
  if (byte >= 0xE0 && byte <= 0xEF) {
    return {2, static_cast<unsigned char>(byte == 0xE0 ? 0xA0 : 0x80),
            static_cast<unsigned char>(byte == 0xED ? 0x9F : 0xBF)};
  }
  if (byte >= 0xF0 && byte <= 0xF4) {
    return {3, static_cast<unsigned char>(byte == 0xF0 ? 0x90 : 0x80),
            static_cast<unsigned char>(byte == 0xF4 ? 0x8F : 0xBF)};
  }
  return {0};
}

/// The character at the front of `bytes`, or the maximal part of one. `bytes` is not empty.
Sequence front(std::string_view bytes) {
  const auto byte_at = [&](size_t i) { return static_cast<unsigned char>(bytes[i]); };
  if (byte_at(0) < 0x80) {
    return {1, Form::kValid};
  }
  auto lead = lead_of(byte_at(0));
  if (lead.following == 0) {
    return {1, Form::kInvalid};
  }
  size_t length = 1;
  for (; lead.following > 0; --lead.following, ++length) {
    if (length == bytes.size()) {
      return {length, Form::kUnfinished};
    }
    if (byte_at(length) < lead.low || byte_at(length) > lead.high) {
      return {length, Form::kInvalid};
    }
    lead.low = 0x80;
    lead.high = 0xBF;
  }
  return {length, Form::kValid};
}

bool is_other_alphabetic_symbol(char32_t code) {
  return (code >= 0x24B6 && code <= 0x24E9) || (code >= 0x1F130 && code <= 0x1F149) ||
         (code >= 0x1F150 && code <= 0x1F169) || (code >= 0x1F170 && code <= 0x1F189);
}

utf8proc_category_t category(char32_t code) { return utf8proc_category(static_cast<utf8proc_int32_t>(code)); }

}  // namespace

std::string valid_utf8(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size());
  while (!bytes.empty()) {
    const auto sequence = front(bytes);
    text += sequence.form == Form::kValid ? bytes.substr(0, sequence.length) : kReplacementCharacter;
    bytes.remove_prefix(sequence.length);
  }
  return text;
}

bool is_valid_utf8(std::string_view bytes) {
  while (!bytes.empty()) {
    const auto sequence = front(bytes);
    if (sequence.form != Form::kValid) {
      return false;
    }
    bytes.remove_prefix(sequence.length);
  }
  return true;
}

size_t finished_length(std::string_view bytes) {
  // An unfinished character is at most three bytes long.
  for (size_t back = 1; back <= 3 && back <= bytes.size(); ++back) {
    const auto tail = bytes.substr(bytes.size() - back);
    const auto sequence = front(tail);
    if (sequence.form == Form::kUnfinished && sequence.length == back) {
      return bytes.size() - back;
    }
  }
  return bytes.size();
}

Character first_character(std::string_view valid_text) {
  utf8proc_int32_t code = 0;
  const auto length = utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(valid_text.data()),
                                       static_cast<utf8proc_ssize_t>(valid_text.size()), &code);
  return {static_cast<char32_t>(code), static_cast<size_t>(length)};
}

Character last_character(std::string_view valid_text) {
  size_t start = valid_text.size() - 1;
  while (start > 0 && (static_cast<unsigned char>(valid_text[start]) & 0xC0) == 0x80) {
    --start;
  }
  return first_character(valid_text.substr(start));
}

void append_utf8(std::string& text, char32_t code) {
  std::array<utf8proc_uint8_t, 4> buffer{};
  const auto length = utf8proc_encode_char(static_cast<utf8proc_int32_t>(code), buffer.data());
  text.append(reinterpret_cast<const char*>(buffer.data()), static_cast<size_t>(length));
}

bool is_numeric(char32_t code) {
  const auto kind = category(code);
  return kind == UTF8PROC_CATEGORY_ND || kind == UTF8PROC_CATEGORY_NL || kind == UTF8PROC_CATEGORY_NO;
}

bool is_punctuation(char32_t code) {
  // In ASCII these include symbols such as $ and +, which Unicode puts into other categories.
  const bool is_ascii = (code >= '!' && code <= '/') || (code >= ':' && code <= '@') || (code >= '[' && code <= '`') ||
                        (code >= '{' && code <= '~');
  const auto kind = category(code);
  return is_ascii || (kind >= UTF8PROC_CATEGORY_PC && kind <= UTF8PROC_CATEGORY_PO);
}

bool is_whitespace(char32_t code) {
  switch (category(code)) {
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
      return true;
    default:
      return (code >= 0x09 && code <= 0x0D) || code == 0x85;
  }
}

bool is_word(char32_t code) {
  switch (category(code)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
      return true;
    default:
      return code == 0x200C || code == 0x200D || is_other_alphabetic_symbol(code);
  }
}

}  // namespace transformers::tokenization
