#pragma once

#include <cstdint>

namespace transformers {

/// Number of elements of an 8-bit optimizer state that share a scale.
inline constexpr int64_t kQuantizedBlock = 256;

}  // namespace transformers
