#pragma once

#include <transformers/export.h>

#include <algorithm>
#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <utility>
#include <vector>

namespace TRANSFORMERS_API transformers {

/// Which hidden states a forward returns, HF's argument and config key `output_hidden_states`: none, all, or those with
/// certain numbers, where 0 is the embeddings and −1 the last. Numbers that do not exist are ignored. GPT-J returns all
/// of them where any is asked for, as HF does.
class OutputHiddenStates {
 public:
  OutputHiddenStates() = default;
  /// true: all. A number: only that one; but 0 chooses none, as in HF.
  template <std::integral Value>
  OutputHiddenStates(Value value) : any_(value != 0) {  // NOLINT(google-explicit-constructor): as in Python
    if constexpr (!std::same_as<Value, bool>) {
      numbers_ = {static_cast<int64_t>(value)};
      is_number_ = true;
    }
  }
  OutputHiddenStates(std::vector<int64_t> numbers)  // NOLINT(google-explicit-constructor)
      : any_(!numbers.empty()), chooses_(true), numbers_(std::move(numbers)) {}
  OutputHiddenStates(std::initializer_list<int64_t> numbers) : OutputHiddenStates(std::vector<int64_t>(numbers)) {}

  explicit operator bool() const { return any_; }

  /// Whether number `index` of `count` hidden states is wanted.
  bool wants(int64_t index, int64_t count) const {
    const auto is_it = [&](int64_t number) { return number == index || number + count == index; };
    return any_ && ((!chooses_ && !is_number_) || std::ranges::any_of(numbers_, is_it));
  }

  /// The numbers that were passed; empty where all or none are wanted.
  const std::vector<int64_t>& numbers() const { return numbers_; }
  bool is_one_number() const { return is_number_; }

  bool operator==(const OutputHiddenStates&) const = default;

 private:
  bool any_ = false, chooses_ = false, is_number_ = false;
  std::vector<int64_t> numbers_;
};

}  // namespace transformers
