#pragma once

#include <c10/core/ScalarType.h>

#include <optional>
#include <string_view>

namespace transformers {

/// The dtype of "torch FloatStorage" and similar names.
std::optional<c10::ScalarType> storage_dtype(std::string_view global);

/// The dtype of "torch float16" and similar names.
std::optional<c10::ScalarType> named_dtype(std::string_view global);

/// The name itself, in static memory, if it is allowed in a pickle; otherwise empty.
std::string_view allowed_global(std::string_view global);

}  // namespace transformers
