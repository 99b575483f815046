#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace transformers::tokenization {

/// SentencePiece's table of character rewrites as a step of tokenizer.json. Mirrors HF `normalizers.Precompiled`, which
/// first looks up whole graphemes.
class Precompiled {
 public:
  /// The bytes of `precompiled_charsmap`; throws, beginning with `source`, when the table points outside itself.
  Precompiled(std::string_view charsmap, const std::string& source);

  std::string operator()(std::string_view valid_text, size_t budget) const;

 private:
  /// The replacement for the shortest entry with which the text begins; null when there is none.
  const char* find(std::string_view text) const;
  void append(std::string_view grapheme, std::string& result) const;

  std::vector<uint32_t> units_;  // a double array, as darts-clone lays it out
  std::string texts_;            // each ends with NUL
};

}  // namespace transformers::tokenization
