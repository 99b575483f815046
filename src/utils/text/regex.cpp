// Regular expressions of tokenizer.json. HF runs them with Oniguruma in its Ruby-like syntax; PCRE2 agrees on the
// constructs that tokenizers use, and what is known to differ is translated or refused here.
#include <c10/util/Exception.h>

#include <algorithm>
#include <cctype>
#include <memory>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "utils/text/pattern.h"
#include "utils/text/printable.h"
#include "utils/text/utf8.h"

namespace transformers::tokenization {
namespace {

// Limits in steps of matching, as PCRE2's interpreter counts them. PCRE2 applies its limit to each start position. A
// search therefore goes over windows of start positions with few steps for each, which is enough for real patterns.
// Where it is not, each position is tried alone with more steps, which are taken from the budget of the whole text.
// PCRE2's own search for first characters is off, because from every window it could run to the end of the text.
constexpr uint32_t kFirstSteps = 1'000;
constexpr size_t kWindow = 256;  // bytes
constexpr size_t kStepsPerByte = 64;
constexpr size_t kStepAllowance = 8'000;  // small, because a pre-tokenizer searches each piece of a text separately
constexpr uint32_t kDepthLimit = 100'000;
constexpr uint32_t kHeapLimit = 256 << 10;  // KiB

struct FreeCode {
  void operator()(pcre2_code* code) const { pcre2_code_free(code); }
};
struct FreeMatch {
  void operator()(pcre2_match_data* match) const { pcre2_match_data_free(match); }
};
struct FreeContext {
  void operator()(pcre2_match_context* context) const { pcre2_match_context_free(context); }
};

std::string reason(int code) {
  PCRE2_UCHAR text[256];
  pcre2_get_error_message(code, text, sizeof(text));
  return reinterpret_cast<const char*>(text);
}

/// The objects that matching needs besides the pattern. Each thread has one, because making it costs more than a short
/// match.
struct MatchState {
  MatchState() : data(pcre2_match_data_create(1, nullptr)), context(pcre2_match_context_create(nullptr)) {
    TORCH_CHECK(data != nullptr && context != nullptr, "out of memory for matching a regex");
    pcre2_set_depth_limit(context.get(), kDepthLimit);
    pcre2_set_heap_limit(context.get(), kHeapLimit);
  }

  std::unique_ptr<pcre2_match_data, FreeMatch> data;  // holds the bounds of the whole match only
  std::unique_ptr<pcre2_match_context, FreeContext> context;
};

/// Rewrites a pattern from Oniguruma's syntax to PCRE2's.
class Translator {
 public:
  Translator(std::string_view regex, const std::string& source) : regex_(regex), source_(source) {}

  std::string run() {
    while (at_ < regex_.size()) {
      step();
    }
    return std::move(result_);
  }

 private:
  bool next_is(std::string_view text) const { return regex_.substr(at_).starts_with(text); }

  void copy(size_t count) {
    result_ += regex_.substr(at_, count);
    at_ += count;
  }

  void refuse(const char* construct) const {
    TORCH_CHECK(false, source_, ": unsupported component: the regex ", printable(regex_), " uses ", construct);
  }

  void step() {
    if (regex_[at_] == '\\') {
      escape();
    } else if (in_class_) {
      inside_class();
    } else {
      outside_class();
    }
  }

  void escape() {
    // PCRE2 counts U+180E as white space, which Unicode no longer does.
    if (next_is("\\s")) {
      result_ += in_class_ ? "\\t-\\r\\x{85}\\p{Z}" : "[\\t-\\r\\x{85}\\p{Z}]";
      at_ += 2;
    } else if (next_is("\\S") && !in_class_) {
      result_ += "[^\\t-\\r\\x{85}\\p{Z}]";
      at_ += 2;
    } else if (next_is("\\h") || next_is("\\H")) {
      refuse("\\h, a hexadecimal digit in one engine and a space in the other");
    } else if (next_is("\\K") || next_is("\\G")) {
      refuse("\\K or \\G");
    } else {
      copy(2);
    }
  }

  void inside_class() {
    if (next_is("&&")) {
      refuse("an intersection of classes");
    }
    if (regex_[at_] == '[' && !next_is("[:")) {
      refuse("a class inside a class");
    }
    if (next_is("[:")) {
      const auto end = regex_.find(":]", at_);
      copy(end == std::string_view::npos ? 1 : end + 2 - at_);
      return;
    }
    in_class_ = regex_[at_] != ']' || at_ == class_start_;
    copy(1);
  }

  void outside_class() {
    if (next_is("(?")) {
      group();
    } else if (regex_[at_] == '[') {
      copy(next_is("[^") ? 2 : 1);
      in_class_ = true;
      class_start_ = at_;
    } else {
      copy(1);
    }
  }

  /// Of the inline options only `i` has the same meaning in both engines.
  void group() {
    const char first = at_ + 2 < regex_.size() ? regex_[at_ + 2] : '\0';
    const bool option = std::isalpha(static_cast<unsigned char>(first)) || first == '-' || first == '^';
    if (option && !next_is("(?i:") && !next_is("(?i)")) {
      refuse("an inline option other than (?i)");
    }
    copy(2);
  }

  std::string_view regex_;
  const std::string& source_;
  std::string result_;
  size_t at_ = 0, class_start_ = 0;
  bool in_class_ = false;
};

class Regex {
 public:
  Regex(const std::string& regex, const std::string& source) : regex_(regex), source_(source) {
    TORCH_CHECK(regex.size() <= kMaxPatternBytes, source, ": expected a regex of at most ", kMaxPatternBytes,
                " bytes, found ", regex.size());
    const auto translated = Translator(regex, source).run();
    int error = 0;
    size_t offset = 0;
    // In Oniguruma ^ and $ always stand at lines.
    code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                              PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C |
                                  PCRE2_USE_OFFSET_LIMIT | PCRE2_NO_START_OPTIMIZE,
                              &error, &offset, nullptr));
    TORCH_CHECK(code_ != nullptr, source, ": the regex ", printable(regex), " does not compile: ", reason(error));
  }

  std::vector<Span> find(std::string_view text) const;

 private:
  friend class Search;

  std::string regex_, source_;
  std::unique_ptr<pcre2_code, FreeCode> code_;
};

size_t character_length(std::string_view text, size_t at) {
  return at < text.size() ? first_character(text.substr(at)).length : 1;
}

/// Finds the matches of one text in order.
class Search {
 public:
  Search(const Regex& regex, std::string_view text)
      : regex_(regex), text_(text), budget_(text.size() * kStepsPerByte + kStepAllowance) {}

  /// The next match that begins at or after `start`: true with its bounds.
  bool next(size_t start) {
    while (start < text_.size()) {
      const auto last = std::min(start + kWindow, text_.size());
      const int found = match(start, last, kFirstSteps);
      if (found >= 0 || (found == PCRE2_ERROR_MATCHLIMIT && matches_in(start, last))) {
        return true;
      }
      start = next_place(last);
    }
    return false;
  }

  size_t begin() const { return pcre2_get_ovector_pointer(state().data.get())[0]; }
  size_t end() const { return pcre2_get_ovector_pointer(state().data.get())[1]; }

 private:
  static MatchState& state() {
    thread_local MatchState state;
    return state;
  }

  /// PCRE2's answer for a match that begins in [start, last].
  int match(size_t start, size_t last, uint32_t steps) const {
    pcre2_set_match_limit(state().context.get(), steps);
    pcre2_set_offset_limit(state().context.get(), last);
    const int found = pcre2_match(regex_.code_.get(), reinterpret_cast<PCRE2_SPTR>(text_.data()), text_.size(), start,
                                  PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, state().data.get(), state().context.get());
    TORCH_CHECK(found >= 0 || found == PCRE2_ERROR_NOMATCH || found == PCRE2_ERROR_MATCHLIMIT, regex_.source_,
                ": the regex ", printable(regex_.regex_), " cannot be matched: ", reason(found));
    return found;
  }

  /// Where the character after the one at `at` begins.
  size_t next_place(size_t at) const {
    do {
      ++at;
    } while (at < text_.size() && (static_cast<unsigned char>(text_[at]) & 0xC0) == 0x80);
    return at;
  }

  /// The same search, one start position at a time.
  bool matches_in(size_t start, size_t last) {
    while (start <= last && !matches_at(start)) {
      start = next_place(start);
    }
    return start <= last;
  }

  /// Whether a match begins exactly there. The number of steps is raised as long as the budget allows.
  bool matches_at(size_t start) {
    for (size_t steps = kFirstSteps;; steps *= 8) {
      const size_t charged = steps == kFirstSteps ? 0 : steps;
      TORCH_CHECK(charged <= budget_, regex_.source_, ": the regex ", printable(regex_.regex_),
                  " cannot be matched: it costs more steps than the limit for a text of ", text_.size(), " bytes");
      budget_ -= charged;
      const int found = match(start, start, static_cast<uint32_t>(std::min<size_t>(steps, UINT32_MAX)));
      if (found != PCRE2_ERROR_MATCHLIMIT) {
        return found >= 0;
      }
    }
  }

  const Regex& regex_;
  std::string_view text_;
  size_t budget_;
};

std::vector<Span> Regex::find(std::string_view text) const {
  SpanList spans;
  Search search(*this, text);
  for (size_t start = 0; search.next(start);) {
    const auto begin = search.begin(), end = search.end();
    spans.add_match(begin, end);
    start = begin == end ? end + character_length(text, end) : end;
  }
  return spans.finish(text.size());
}

}  // namespace

Pattern regex_pattern(const std::string& regex, const std::string& source) {
  return [shared = std::make_shared<Regex>(regex, source)](std::string_view text) { return shared->find(text); };
}

}  // namespace transformers::tokenization
