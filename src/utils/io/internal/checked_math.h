#pragma once

#include <cstdint>
#include <optional>
#include <span>

namespace transformers {

/// a * b and a + b; nullopt when the result does not fit.
inline std::optional<int64_t> checked_multiply(int64_t a, int64_t b) {
  int64_t result = 0;
  return __builtin_mul_overflow(a, b, &result) ? std::nullopt : std::optional(result);
}

inline std::optional<int64_t> checked_add(int64_t a, int64_t b) {
  int64_t result = 0;
  return __builtin_add_overflow(a, b, &result) ? std::nullopt : std::optional(result);
}

/// Bytes of a dense tensor; nullopt when a size is negative or the product of the sizes overflows, even if a size of
/// zero would hide that.
inline std::optional<int64_t> dense_bytes(std::span<const int64_t> shape, int64_t item_bytes) {
  std::optional<int64_t> bytes = item_bytes;
  bool is_empty = false;
  for (const auto size : shape) {
    is_empty = is_empty || size == 0;
    bytes = size < 0 || !bytes ? std::nullopt : checked_multiply(*bytes, size == 0 ? 1 : size);
  }
  return bytes && is_empty ? 0 : bytes;
}

}  // namespace transformers
