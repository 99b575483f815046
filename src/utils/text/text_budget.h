#pragma once

#include <c10/util/Exception.h>

#include <cstddef>

namespace transformers::tokenization {

/// Limit of the bytes that a tokenizer file may make of a text of `size` bytes in all steps together. It is far above
/// what real files need (the longest decomposition of Unicode is elevenfold, the spelling of a space as ▁ threefold).
inline constexpr size_t kTextGrowth = 32;
inline constexpr size_t kTextAllowance = size_t{64} << 10;
inline size_t text_budget(size_t size) { return size * kTextGrowth + kTextAllowance; }

/// Throws when a text exceeds its budget; `what` is the part of the tokenizer that made the text.
inline void check_text_budget(size_t size, size_t budget, const char* what) {
  TORCH_CHECK(size <= budget, what, " of the tokenizer makes a text longer than ", kTextGrowth, " times its bytes and ",
              kTextAllowance, " more (limit ", budget, " bytes)");
}

}  // namespace transformers::tokenization
