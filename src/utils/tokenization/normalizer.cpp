// Mirrors `normalizers` of huggingface/tokenizers 0.23.
#include "utils/tokenization/normalizer.h"

#include <c10/util/Exception.h>
#include <utf8proc.h>

#include <cstdlib>
#include <memory>

#include "utils/text/base64.h"
#include "utils/text/text_budget.h"
#include "utils/text/utf8.h"
#include "utils/tokenization/component_patterns.h"
#include "utils/tokenization/precompiled.h"

namespace transformers::tokenization {
namespace {

/// One step of a normalizer: makes another text of at most `budget` bytes.
using NormalizerStep = std::function<std::string(std::string_view, size_t budget)>;

NormalizerStep make_normalizer_step(const JsonNode& node);

NormalizerStep make_sequence(const JsonNode& node) {
  std::vector<NormalizerStep> steps;
  for (const auto& item : node.at("normalizers").items()) {
    steps.push_back(make_normalizer_step(item));
  }
  return [steps = std::move(steps)](std::string_view text, size_t budget) {
    std::string result(text);
    for (const auto& step : steps) {
      result = step(result, budget);
    }
    return result;
  };
}

NormalizerStep make_prepend(const JsonNode& node) {
  return [prefix = node.at("prepend").text()](std::string_view text, size_t budget) {
    check_text_budget(prefix.size() + text.size(), budget, "a Prepend step");
    return text.empty() ? std::string() : prefix + std::string(text);
  };
}

NormalizerStep make_replace(const JsonNode& node) {
  return [pattern = make_pattern(node.at("pattern")), content = node.at("content").text()](
             std::string_view text, size_t budget) { return replace_all(text, pattern, content, budget); };
}

NormalizerStep make_precompiled(const JsonNode& node) {
  const auto map = node.at("precompiled_charsmap");
  const auto bytes = decode_base64(map.text());
  TORCH_CHECK(bytes, map.path(), ": expected base64");
  return [table = std::make_shared<const Precompiled>(*bytes, map.path())](std::string_view text, size_t budget) {
    return (*table)(text, budget);
  };
}

/// Removes white space at either end.
NormalizerStep make_strip_normalizer(const JsonNode& node) {
  return [left = node.at("strip_left").flag(), right = node.at("strip_right").flag()](std::string_view text, size_t) {
    while (left && !text.empty() && is_whitespace(first_character(text).code)) {
      text.remove_prefix(first_character(text).length);
    }
    while (right && !text.empty() && is_whitespace(last_character(text).code)) {
      text.remove_suffix(last_character(text).length);
    }
    return std::string(text);
  };
}

/// Character by character, as Rust's `char::to_lowercase`: only İ becomes two.
std::string lower_case(std::string_view text, size_t budget) {
  std::string result;
  while (!text.empty()) {
    const auto character = first_character(text);
    append_utf8(result, character.code == U'\u0130'
                            ? U'i'
                            : static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(character.code))));
    result += character.code == U'\u0130' ? "\xCC\x87" : "";
    text.remove_prefix(character.length);
  }
  check_text_budget(result.size(), budget, "a Lowercase step");
  return result;
}

NormalizerStep make_unicode_form(int options) {
  return [options](std::string_view text, size_t budget) {
    utf8proc_uint8_t* mapped = nullptr;
    const auto size =
        utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()), static_cast<utf8proc_ssize_t>(text.size()),
                     &mapped, static_cast<utf8proc_option_t>(options));
    const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(mapped, &std::free);
    TORCH_CHECK(size >= 0, "Unicode normalization failed: ", utf8proc_errmsg(size));
    check_text_budget(static_cast<size_t>(size), budget, "a Unicode form");
    return std::string(reinterpret_cast<const char*>(mapped), static_cast<size_t>(size));
  };
}

NormalizerStep make_normalizer_step(const JsonNode& node) {
  const auto type = node.at("type").text();
  if (type == "Sequence") {
    return make_sequence(node);
  }
  if (type == "Prepend") {
    return make_prepend(node);
  }
  if (type == "Replace") {
    return make_replace(node);
  }
  if (type == "Precompiled") {
    return make_precompiled(node);
  }
  if (type == "Strip") {
    return make_strip_normalizer(node);
  }
  if (type == "Lowercase") {
    return lower_case;
  }
  if (type == "NFC") {
    return make_unicode_form(UTF8PROC_STABLE | UTF8PROC_COMPOSE);
  }
  if (type == "NFD") {
    return make_unicode_form(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE);
  }
  if (type == "NFKC") {
    return make_unicode_form(UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT);
  }
  if (type == "NFKD") {
    return make_unicode_form(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT);
  }
  unsupported_component(node, "normalizer " + type);
}

}  // namespace

Normalizer make_normalizer(const JsonNode& node) {
  return [step = make_normalizer_step(node)](std::string_view text) { return step(text, text_budget(text.size())); };
}

}  // namespace transformers::tokenization
