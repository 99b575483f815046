#include "utils/tokenization/component_patterns.h"

#include <c10/util/Exception.h>

namespace transformers::tokenization {

Pattern make_pattern(const JsonNode& node) {
  if (node.has("String")) {
    const auto text = node.at("String");
    TORCH_CHECK(!text.text().empty(), text.path(), ": expected a text to look for, found an empty one");
    return literal_pattern(text.text());
  }
  if (node.has("Regex")) {
    return regex_pattern(node.at("Regex").text(), node.path());
  }
  unsupported_component(node, "pattern that is neither String nor Regex");
}

std::string replace_all(std::string_view text, const Pattern& pattern, std::string_view content) {
  std::string result;
  for (const auto& span : pattern(text)) {
    result += span.is_match ? content : text.substr(span.begin, span.end - span.begin);
  }
  return result;
}

}  // namespace transformers::tokenization
