#pragma once

#include <string>
#include <string_view>

#include "utils/text/pattern.h"
#include "utils/tokenization/json_node.h"

namespace transformers::tokenization {

/// `{"String": "..."}` or `{"Regex": "..."}`.
Pattern make_pattern(const JsonNode& node);

/// Replaces each match in the text by `content`. Throws when the result is longer than `budget` bytes.
std::string replace_all(std::string_view text, const Pattern& pattern, std::string_view content, size_t budget);

}  // namespace transformers::tokenization
