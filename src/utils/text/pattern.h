#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace transformers::tokenization {

inline constexpr size_t kMaxPatternBytes = size_t{1} << 16;

/// A range of a text, in bytes, and whether the pattern matched it.
struct Span {
  size_t begin, end;
  bool is_match;
};

/// Collects matches from left to right and fills the gaps between them.
class SpanList {
 public:
  void add_match(size_t begin, size_t end) {
    add_gap(begin);
    spans_.push_back({begin, end, true});
    covered_ = end;
  }

  std::vector<Span> finish(size_t text_size) {
    add_gap(text_size);
    return std::move(spans_);
  }

 private:
  void add_gap(size_t end) {
    if (covered_ < end) {
      spans_.push_back({covered_, end, false});
    }
  }

  std::vector<Span> spans_;
  size_t covered_ = 0;
};

/// The pattern of a `Split` or `Replace` component of tokenizer.json. Spans cover the text without gaps.
using Pattern = std::function<std::vector<Span>(std::string_view valid_text)>;

Pattern literal_pattern(std::string text);

/// A regular expression as HF's engine (Oniguruma) reads it, run by PCRE2. Throws when it does not compile or uses a
/// construct that the two engines understand differently, and when searching a text takes more steps than the budget
/// for its length; `source` begins the message.
Pattern regex_pattern(const std::string& regex, const std::string& source);

/// Matches every single character of a class.
Pattern character_pattern(bool (*belongs)(char32_t));

enum class SplitBehavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

/// The pieces that HF's `NormalizedString::split` makes of the spans; without empty ones.
std::vector<std::string_view> split(std::string_view text, std::vector<Span> spans, SplitBehavior behavior);

}  // namespace transformers::tokenization
