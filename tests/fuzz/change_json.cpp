#include <algorithm>
#include <array>
#include <optional>
#include <string_view>
#include <vector>

#include "fuzz/changes.h"

namespace transformers::fuzz {
namespace {

struct Part {
  size_t begin = 0, end = 0;

  std::string_view of(std::string_view text) const { return text.substr(begin, end - begin); }
};

/// A member of an object, or an element of an array, whose key is empty.
struct Item {
  Part whole, key, value;
};

/// Finds the items of a JSON text, those before the first fault where it has one.
class Scanner {
 public:
  explicit Scanner(std::string_view text) : text_(text) { value(/*depth=*/0); }

  std::vector<Item> items;

 private:
  static constexpr int kMaxDepth = 200;

  char next() {
    at_ = std::min(text_.find_first_not_of(" \t\r\n", at_), text_.size());
    return at_ < text_.size() ? text_[at_] : '\0';
  }

  std::optional<Part> string() {
    const auto begin = at_++;
    for (; at_ < text_.size() && text_[at_] != '"'; ++at_) {
      at_ += text_[at_] == '\\' ? 1 : 0;
    }
    return at_ < text_.size() ? std::optional(Part{begin, ++at_}) : std::nullopt;
  }

  std::optional<Part> value(int depth) {
    const auto first = next();
    const auto begin = at_;
    if (first == '{' || first == '[') {
      return depth < kMaxDepth && container(first == '{', depth) ? std::optional(Part{begin, at_}) : std::nullopt;
    }
    if (first == '"') {
      return string();
    }
    at_ = std::min(text_.find_first_of(",]}: \t\r\n", at_), text_.size());
    return at_ > begin ? std::optional(Part{begin, at_}) : std::nullopt;
  }

  bool container(bool is_object, int depth) {
    const char close = is_object ? '}' : ']';
    ++at_;
    while (next() != close) {
      Item item{};
      next();
      item.whole.begin = at_;
      if (is_object) {
        const auto key = text_[std::min(at_, text_.size() - 1)] == '"' ? string() : std::nullopt;
        if (!key || next() != ':') {
          return false;
        }
        item.key = *key;
        ++at_;
      }
      const auto found = value(depth + 1);
      if (!found) {
        return false;
      }
      item.value = *found;
      item.whole.end = found->end;
      items.push_back(item);
      if (next() == ',') {
        ++at_;
      }
    }
    ++at_;
    return true;
  }

  std::string_view text_;
  size_t at_ = 0;
};

constexpr std::array<std::string_view, 34> kValues{"null",
                                                   "true",
                                                   "false",
                                                   "0",
                                                   "-0",
                                                   "-1",
                                                   "1",
                                                   "2",
                                                   "7",
                                                   "2.0",
                                                   "1e3",
                                                   "0.5",
                                                   "-1e-9",
                                                   "1e308",
                                                   "1e400",
                                                   "64",
                                                   "4096",
                                                   "2147483647",
                                                   "2147483648",
                                                   "4294967296",
                                                   "9223372036854775807",
                                                   "9223372036854775808",
                                                   "18446744073709551615",
                                                   "18446744073709551616",
                                                   "-9223372036854775808",
                                                   "\"\"",
                                                   "\"a\"",
                                                   "\"\\u0000\"",
                                                   "\"\\ud83d\\ude00\"",
                                                   "\"../a\"",
                                                   "[]",
                                                   "{}",
                                                   "[[]]",
                                                   R"({"__float__":"NaN"})"};

std::string repeated(std::string_view text, size_t times) {
  std::string all;
  for (size_t i = 0; i < times; ++i) {
    all += text;
  }
  return all;
}

std::string wrapped(std::string_view value, Random& random) {
  constexpr std::array<size_t, 6> kDepths{1, 2, 3, 62, 64, 127};
  const auto depth = kDepths[below(random, kDepths.size())];
  return repeated("[", depth) + std::string(value) + repeated("]", depth);
}

std::string new_value(const std::string& input, const std::vector<Item>& items, std::string_view old, Random& random) {
  switch (below(random, 6)) {
    case 0:
      return wrapped(old, random);
    case 1:
    case 2:
      return std::string(items[below(random, items.size())].value.of(input));
    default:
      return std::string(kValues[below(random, kValues.size())]);
  }
}

/// Takes an item out, with the comma before or after it.
std::string without(std::string input, const Part& part) {
  const auto after = input.find_first_not_of(" \t\r\n", part.end);
  if (after != std::string::npos && input[after] == ',') {
    return input.erase(part.begin, after + 1 - part.begin);
  }
  const auto before = part.begin == 0 ? std::string::npos : input.find_last_not_of(" \t\r\n", part.begin - 1);
  const auto begin = before != std::string::npos && input[before] == ',' ? before : part.begin;
  return input.erase(begin, part.end - begin);
}

std::string digits_changed(std::string input, const Part& value, Random& random) {
  const auto at = value.begin + below(random, value.end - value.begin);
  if (input[at] >= '0' && input[at] <= '9') {
    input[at] = static_cast<char>('0' + below(random, 10));
    return input;
  }
  return change_bytes(std::move(input), random);
}

}  // namespace

std::string change_json(std::string input, Random& random) {
  const auto items = Scanner(input).items;
  if (items.empty()) {
    return change_bytes(std::move(input), random);
  }
  const auto& item = items[below(random, items.size())];
  const auto& other = items[below(random, items.size())];
  switch (below(random, 10)) {
    case 0:
      return without(std::move(input), item.whole);
    case 1:
      return input.insert(item.whole.end, "," + std::string(item.whole.of(input)));
    case 2:
      return input.insert(item.whole.end, "," + std::string(other.whole.of(input)));
    case 3:
      return input.replace(item.key.begin, item.key.end - item.key.begin, std::string(other.key.of(input)));
    case 4:
    case 5:
      return digits_changed(std::move(input), item.value, random);
    default:
      return input.replace(item.value.begin, item.value.end - item.value.begin,
                           new_value(input, items, item.value.of(input), random));
  }
}

std::string change_json_lines(std::string input, Random& random) {
  const auto place = input.empty() ? 0 : below(random, input.size());
  const auto before = place == 0 ? std::string::npos : input.rfind('\n', place - 1);
  const auto begin = before == std::string::npos ? 0 : before + 1;
  const auto end = std::min(input.find('\n', begin), input.size());
  const auto line = input.substr(begin, end - begin);
  if (below(random, 8) == 0) {
    return input.insert(begin, line + "\n");
  }
  return input.replace(begin, end - begin, change_json(line, random));
}

}  // namespace transformers::fuzz
