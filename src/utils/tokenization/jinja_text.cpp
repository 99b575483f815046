// Brings Jinja templates into one canonical spelling, so that templates that mean the same can be compared as texts: a
// Reader splits the template into text and tags and applies white space control as HF configures it.
#include "utils/tokenization/jinja_text.h"

#include <algorithm>
#include <array>
#include <utility>

namespace transformers::tokenization {
namespace {

constexpr std::string_view kSpace = " \t\r\n";

std::string quoted(std::string_view text) { return kQuote + std::string(text) + kQuote; }

void replace_each(std::string& text, std::string_view from, std::string_view to) {
  std::string result;
  size_t copied = 0;
  for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, copied)) {
    result.append(text, copied, at - copied);
    result += to;
    copied = at + from.size();
  }
  result.append(text, copied);
  text = std::move(result);
}

char unescaped(char character) {
  constexpr std::array<std::pair<char, char>, 3> kEscapes{{{'n', '\n'}, {'t', '\t'}, {'r', '\r'}}};
  for (const auto& [letter, meaning] : kEscapes) {
    if (character == letter) {
      return meaning;
    }
  }
  return character;
}

/// Cuts a template into text and tags.
class Reader {
 public:
  explicit Reader(std::string_view text) : rest_(text) {
    if (rest_.ends_with('\n')) {  // as Jinja does
      rest_.remove_suffix(1);
    }
  }

  std::string run() {
    while (!rest_.empty()) {
      const auto open = find_tag();
      add_text(rest_.substr(0, open));
      rest_.remove_prefix(std::min(open, rest_.size()));
      if (!rest_.empty()) {
        read_tag();
      }
    }
    flush_text(/*strip=*/false, /*is_block=*/false);
    return std::move(result_);
  }

 private:
  /// Searches for all three kinds of tags at once: a search for each would run to the end of the template every time.
  size_t find_tag() const {
    for (size_t at = rest_.find('{'); at != std::string_view::npos; at = rest_.find('{', at + 1)) {
      if (at + 1 < rest_.size() && std::string_view("{%#").find(rest_[at + 1]) != std::string_view::npos) {
        return at;
      }
    }
    return rest_.size();
  }

  void add_text(std::string_view text) {
    if (strip_next_) {
      text.remove_prefix(std::min(text.find_first_not_of(kSpace), text.size()));
    } else if (after_block_ && text.starts_with('\n')) {
      text.remove_prefix(1);
    }
    text_ = text;
  }

  /// White space before a tag is removed if the tag asks for it, or if the tag is a block that is first in its line.
  void flush_text(bool strip, bool is_block) {
    if (strip) {
      text_.erase(text_.find_last_not_of(kSpace) + 1);
    } else if (is_block) {
      const auto line = text_.find_last_not_of(" \t") + 1;
      const bool first_in_line = line == 0 ? result_.empty() || after_block_ : text_[line - 1] == '\n';
      text_.erase(first_in_line ? line : text_.size());
    }
    if (!text_.empty()) {
      add_output(quoted(text_));
    }
    text_.clear();
  }

  void read_tag() {
    const char kind = rest_[1];
    rest_.remove_prefix(2);
    const bool strip = rest_.starts_with('-');
    flush_text(strip, kind != '{');
    rest_.remove_prefix(strip ? 1 : 0);
    after_block_ = kind != '{';
    if (kind == '{') {
      add_output(read_code("}}"));
    } else if (kind == '%') {
      result_ += "{%" + read_code("%}") + "%}";
    } else {
      skip_comment();
    }
  }

  void skip_comment() {
    const auto end = std::min(rest_.find("#}"), rest_.size());
    strip_next_ = rest_.substr(0, end).ends_with('-');
    rest_.remove_prefix(std::min(end + 2, rest_.size()));
  }

  std::string read_code(std::string_view close) {
    std::string code;
    while (!rest_.empty() && !rest_.starts_with(close)) {
      if (rest_[0] == '\'' || rest_[0] == '"') {
        code += read_string();
        continue;
      }
      if (kSpace.find(rest_[0]) == std::string_view::npos) {
        code += rest_[0];
      }
      rest_.remove_prefix(1);
    }
    rest_.remove_prefix(std::min(close.size(), rest_.size()));
    strip_next_ = code.ends_with('-');
    if (strip_next_) {
      code.pop_back();
    }
    return code;
  }

  std::string read_string() {
    const char quote = rest_[0];
    rest_.remove_prefix(1);
    std::string text;
    while (!rest_.empty() && rest_[0] != quote) {
      const bool escape = rest_[0] == '\\' && rest_.size() > 1;
      text += escape ? unescaped(rest_[1]) : rest_[0];
      rest_.remove_prefix(escape ? 2 : 1);
    }
    rest_.remove_prefix(std::min<size_t>(1, rest_.size()));
    return quoted(text);
  }

  void add_output(const std::string& code) {
    if (result_.ends_with("}}")) {
      result_.erase(result_.size() - 2);
      result_ += "+" + code + "}}";
    } else {
      result_ += "{{" + code + "}}";
    }
  }

  std::string_view rest_;
  std::string text_, result_;
  bool strip_next_ = false, after_block_ = false;
};

}  // namespace

std::string canonical_template(std::string_view chat_template) {
  auto text = Reader(chat_template).run();
  replace_each(text, ".role", "[" + quoted("role") + "]");
  replace_each(text, ".content", "[" + quoted("content") + "]");
  replace_each(text, ".strip()", "|trim");
  replace_each(text, std::string{kQuote, '+', kQuote}, "");
  return text;
}

}  // namespace transformers::tokenization
