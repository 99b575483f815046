// Mirrors the crate spm_precompiled 0.1 as huggingface/tokenizers 0.23 uses it.
#include "utils/tokenization/precompiled.h"

#include <c10/util/Exception.h>
#include <utf8proc.h>

#include <cstring>

#include "utils/text/text_budget.h"
#include "utils/text/utf8.h"
#include "utils/tokenization/sentencepiece_model.h"

namespace transformers::tokenization {
namespace {

/// Graphemes longer than this are rewritten character by character at once.
constexpr size_t kGraphemeBytes = 6;

size_t offset_of(uint32_t unit) { return static_cast<size_t>(unit >> 10) << ((unit & 1U << 9) >> 6); }

size_t grapheme_length(std::string_view text) {
  auto before = first_character(text);
  utf8proc_int32_t state = 0;
  size_t length = before.length;
  while (length < text.size()) {
    const auto next = first_character(text.substr(length));
    if (utf8proc_grapheme_break_stateful(static_cast<utf8proc_int32_t>(before.code),
                                         static_cast<utf8proc_int32_t>(next.code), &state) != 0) {
      break;
    }
    length += next.length;
    before = next;
  }
  return length;
}

}  // namespace

Precompiled::Precompiled(std::string_view charsmap, const std::string& source) {
  TORCH_CHECK(!charsmap.empty(), source, ": expected a table of character rewrites, found none");
  check_charsmap(charsmap, source);
  uint32_t size = 0;
  std::memcpy(&size, charsmap.data(), sizeof(size));
  units_.resize(size / sizeof(uint32_t));
  std::memcpy(units_.data(), charsmap.data() + sizeof(size), units_.size() * sizeof(uint32_t));
  texts_ = charsmap.substr(sizeof(size) + size);
  TORCH_CHECK(is_valid_utf8(texts_), source, ": the table of character rewrites holds invalid UTF-8");
}

const char* Precompiled::find(std::string_view text) const {
  size_t position = offset_of(units_[0]);
  for (const char character : text) {
    const auto byte = static_cast<unsigned char>(character);
    if (byte == 0) {
      return nullptr;
    }
    position ^= byte;
    const auto unit = units_[position];
    if ((unit & (1U << 31 | 0xFF)) != byte) {
      return nullptr;
    }
    position ^= offset_of(unit);
    if ((unit >> 8 & 1) != 0) {
      return texts_.c_str() + (units_[position] & 0x7FFFFFFF);
    }
  }
  return nullptr;
}

void Precompiled::append(std::string_view grapheme, std::string& result) const {
  if (grapheme.size() < kGraphemeBytes) {
    if (const auto* whole = find(grapheme)) {
      result += whole;
      return;
    }
  }
  while (!grapheme.empty()) {
    const auto character = grapheme.substr(0, first_character(grapheme).length);
    const auto* rewrite = find(character);
    result += rewrite != nullptr ? std::string_view(rewrite) : character;
    grapheme.remove_prefix(character.size());
  }
}

std::string Precompiled::operator()(std::string_view valid_text, size_t budget) const {
  std::string result;
  while (!valid_text.empty()) {
    const auto grapheme = valid_text.substr(0, grapheme_length(valid_text));
    append(grapheme, result);
    check_text_budget(result.size(), budget, "the table of character rewrites");
    valid_text.remove_prefix(grapheme.size());
  }
  // A value of the table may point into a character.
  return valid_utf8(result);
}

}  // namespace transformers::tokenization
