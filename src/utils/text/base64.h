#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace transformers::tokenization {

/// The bytes of a padded base64 text; nullopt when it is not one.
std::optional<std::string> decode_base64(std::string_view text);

}  // namespace transformers::tokenization
