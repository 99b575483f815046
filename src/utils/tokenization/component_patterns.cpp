#include "utils/tokenization/component_patterns.h"

#include <c10/util/Exception.h>

#include "utils/text/text_budget.h"

namespace transformers::tokenization {

Pattern make_pattern(const JsonNode& node) {
  if (node.has("String")) {
    const auto text = node.at("String");
    TORCH_CHECK(!text.text().empty(), text.path(), ": expected a text to look for, found an empty one");
    TORCH_CHECK(text.text().size() <= kMaxPatternBytes, text.path(), ": expected a text of at most ", kMaxPatternBytes,
                " bytes, found ", text.text().size());
    return literal_pattern(text.text());
  }
  if (node.has("Regex")) {
    return regex_pattern(node.at("Regex").text(), node.path());
  }
  unsupported_component(node, "pattern that is neither String nor Regex");
}

std::string replace_all(std::string_view text, const Pattern& pattern, std::string_view content, size_t budget) {
  std::string result;
  for (const auto& span : pattern(text)) {
    const auto part = span.is_match ? content : text.substr(span.begin, span.end - span.begin);
    check_text_budget(result.size() + part.size(), budget, "a Replace step");
    result += part;
  }
  return result;
}

}  // namespace transformers::tokenization
