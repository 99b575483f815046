#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <unordered_map>

namespace transformers::tokenization {

/// Length of the longest token that is searched for in a text: so many bytes may have to be compared at every position.
inline constexpr size_t kMaxTokenBytes = 1024;

/// Finds which of many texts occur at a position.
class TextTrie {
 public:
  void insert(std::string_view text, size_t value) {
    if (text.empty()) {
      return;
    }
    first_bytes_[byte_at(text, 0)] = true;
    uint64_t node = 0;
    for (size_t i = 0; i < text.size(); ++i) {
      const auto [child, inserted] = children_.try_emplace(node << 8 | byte_at(text, i), nodes_);
      nodes_ += inserted;
      node = child->second;
    }
    values_.try_emplace(node, value);
  }

  struct Match {
    size_t length;
    size_t value;
  };

  /// Calls `take` with each inserted text that `text` begins with, the shortest first.
  template <typename Take>
  void for_each_prefix(std::string_view text, const Take& take) const {
    if (text.empty() || !first_bytes_[byte_at(text, 0)]) {
      return;
    }
    uint64_t node = 0;
    for (size_t i = 0; i < text.size(); ++i) {
      const auto child = children_.find(node << 8 | byte_at(text, i));
      if (child == children_.end()) {
        return;
      }
      node = child->second;
      if (const auto value = values_.find(node); value != values_.end()) {
        take(Match{i + 1, value->second});
      }
    }
  }

  /// The longest inserted text that `text` begins with; length 0 when there is none.
  Match longest_at(std::string_view text) const {
    Match longest{0, 0};
    for_each_prefix(text, [&](const Match& match) { longest = match; });
    return longest;
  }

 private:
  static unsigned char byte_at(std::string_view text, size_t at) { return static_cast<unsigned char>(text[at]); }

  std::unordered_map<uint64_t, uint64_t> children_;  // node << 8 | byte -> node
  std::unordered_map<uint64_t, size_t> values_;      // node -> value
  std::array<bool, 256> first_bytes_{};
  uint64_t nodes_ = 1;
};

}  // namespace transformers::tokenization
