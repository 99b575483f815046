// Mirrors the `Pattern` trait and `NormalizedString::split` of huggingface/tokenizers 0.23.
#include "utils/text/pattern.h"

#include <algorithm>

#include "utils/text/utf8.h"

namespace transformers::tokenization {
namespace {

/// Joins each span to the one before it where `joins(previous span, this span)`.
template <typename Joins>
std::vector<Span> joined(const std::vector<Span>& spans, Joins joins) {
  std::vector<Span> result;
  for (size_t i = 0; i < spans.size(); ++i) {
    if (i > 0 && joins(spans[i - 1], spans[i])) {
      result.back().end = spans[i].end;
    } else {
      result.push_back(spans[i]);
    }
  }
  return result;
}

}  // namespace

Pattern literal_pattern(std::string text) {
  return [text = std::move(text)](std::string_view where) {
    SpanList spans;
    for (size_t at = where.find(text); !text.empty() && at != std::string_view::npos;
         at = where.find(text, at + text.size())) {
      spans.add_match(at, at + text.size());
    }
    return spans.finish(where.size());
  };
}

Pattern character_pattern(bool (*belongs)(char32_t)) {
  return [belongs](std::string_view where) {
    SpanList spans;
    for (size_t at = 0; at < where.size();) {
      const auto character = first_character(where.substr(at));
      if (belongs(character.code)) {
        spans.add_match(at, at + character.length);
      }
      at += character.length;
    }
    return spans.finish(where.size());
  };
}

std::vector<std::string_view> split(std::string_view text, std::vector<Span> spans, SplitBehavior behavior) {
  switch (behavior) {
    case SplitBehavior::kContiguous:
      spans = joined(spans, [](const Span& before, const Span& now) { return before.is_match == now.is_match; });
      break;
    case SplitBehavior::kMergedWithPrevious:
      spans = joined(spans, [](const Span& before, const Span& now) { return !before.is_match && now.is_match; });
      break;
    case SplitBehavior::kMergedWithNext:
      spans = joined(spans, [](const Span& before, const Span& now) { return before.is_match && !now.is_match; });
      break;
    case SplitBehavior::kRemoved:
      std::erase_if(spans, [](const Span& span) { return span.is_match; });
      break;
    case SplitBehavior::kIsolated:
      break;
  }
  std::vector<std::string_view> pieces;
  for (const auto& span : spans) {
    if (span.begin < span.end) {
      pieces.push_back(text.substr(span.begin, span.end - span.begin));
    }
  }
  return pieces;
}

}  // namespace transformers::tokenization
