#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "utils/tokenization/json_node.h"

namespace transformers::tokenization {

/// Rewrites a piece of valid text before it is split.
using Normalizer = std::function<std::string(std::string_view)>;

/// The `normalizer` of a tokenizer.json: `Sequence`, `Prepend`, `Replace`, `NFC`, `NFD`, `NFKC`, `NFKD`, `Strip`,
/// `Lowercase`, `Precompiled`.
Normalizer make_normalizer(const JsonNode& node);

}  // namespace transformers::tokenization
