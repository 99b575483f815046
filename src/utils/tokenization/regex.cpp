// Regular expressions of tokenizer.json. HF runs them with Oniguruma in its Ruby-like syntax; PCRE2 agrees on the
// constructs that tokenizers use, and what is known to differ is translated or refused here.
#include <c10/util/Exception.h>

#include <cctype>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "utils/json/printable.h"
#include "utils/tokenization/pattern.h"
#include "utils/tokenization/utf8.h"

namespace transformers::tokenization {
namespace {

// Far above what real patterns need on a megabyte of text, and still seconds rather than hours.
constexpr uint32_t kMatchLimit = 50'000'000;
constexpr uint32_t kDepthLimit = 100'000;
constexpr size_t kJitStackBytes = size_t{8} << 20;
constexpr size_t kMaxPatternBytes = size_t{1} << 16;

struct FreeCode {
  void operator()(pcre2_code* code) const { pcre2_code_free(code); }
};
struct FreeMatch {
  void operator()(pcre2_match_data* match) const { pcre2_match_data_free(match); }
};
struct FreeContext {
  void operator()(pcre2_match_context* context) const { pcre2_match_context_free(context); }
};
struct FreeStack {
  void operator()(pcre2_jit_stack* stack) const { pcre2_jit_stack_free(stack); }
};

std::string reason(int code) {
  PCRE2_UCHAR text[256];
  pcre2_get_error_message(code, text, sizeof(text));
  return reinterpret_cast<const char*>(text);
}

/// What matching needs besides the pattern; one for each thread, since making it costs more than a short match.
struct MatchState {
  MatchState()
      : data(pcre2_match_data_create(1, nullptr)),
        context(pcre2_match_context_create(nullptr)),
        stack(pcre2_jit_stack_create(size_t{32} << 10, kJitStackBytes, nullptr)) {
    TORCH_CHECK(data != nullptr && context != nullptr, "out of memory for matching a regex");
    pcre2_set_match_limit(context.get(), kMatchLimit);
    pcre2_set_depth_limit(context.get(), kDepthLimit);
    pcre2_jit_stack_assign(context.get(), nullptr, stack.get());
  }

  std::unique_ptr<pcre2_match_data, FreeMatch> data;  // holds the bounds of the whole match only
  std::unique_ptr<pcre2_match_context, FreeContext> context;
  std::unique_ptr<pcre2_jit_stack, FreeStack> stack;
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

  /// Of inline options only `i` means the same in both engines.
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
                              PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &error, &offset,
                              nullptr));
    TORCH_CHECK(code_ != nullptr, source, ": the regex ", printable(regex), " does not compile: ", reason(error));
    pcre2_jit_compile(code_.get(), PCRE2_JIT_COMPLETE);
  }

  std::vector<Span> find(std::string_view text) const;

 private:
  /// False when there is no further match at or after `start`.
  bool match(std::string_view text, size_t start, const MatchState& state) const {
    const int found = pcre2_match(code_.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), start,
                                  PCRE2_NO_UTF_CHECK, state.data.get(), state.context.get());
    TORCH_CHECK(found >= 0 || found == PCRE2_ERROR_NOMATCH, source_, ": the regex ", printable(regex_),
                " cannot be matched: ", reason(found));
    return found >= 0;
  }

  std::string regex_, source_;
  std::unique_ptr<pcre2_code, FreeCode> code_;
};

std::vector<Span> Regex::find(std::string_view text) const {
  thread_local const MatchState state;
  const size_t* bounds = pcre2_get_ovector_pointer(state.data.get());

  SpanList spans;
  for (size_t start = 0; start < text.size() && match(text, start, state);) {
    spans.add_match(bounds[0], bounds[1]);
    start = bounds[1];
    if (bounds[0] == bounds[1]) {
      start += start < text.size() ? first_character(text.substr(start)).length : 1;
    }
  }
  return spans.finish(text.size());
}

}  // namespace

Pattern regex_pattern(const std::string& regex, const std::string& source) {
  return [shared = std::make_shared<Regex>(regex, source)](std::string_view text) { return shared->find(text); };
}

}  // namespace transformers::tokenization
