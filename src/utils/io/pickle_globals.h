#pragma once

#include <c10/core/ScalarType.h>

#include <optional>
#include <string_view>

namespace transformers {

/// dtype of "torch FloatStorage" and its like.
std::optional<c10::ScalarType> storage_dtype(std::string_view global);

/// dtype of "torch float16" and its like.
std::optional<c10::ScalarType> named_dtype(std::string_view global);

/// The name itself, for as long as the program runs, when a pickle may hold it at all; otherwise empty.
std::string_view allowed_global(std::string_view global);

}  // namespace transformers
