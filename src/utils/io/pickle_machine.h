#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "utils/io/pickle.h"

namespace transformers {

/// The machine that a pickle drives: a stack of values, a memo, and marks on the stack. It executes the opcodes of
/// plain data and limits the memory of all values; a derived class executes the opcodes that name Python objects.
class PickleMachine {
 protected:
  using Kind = PickleValue::Kind;

  /// `source` is what errors name. It, `bytes` and `values` must outlive the machine.
  PickleMachine(std::string_view bytes, const std::string& source, std::deque<PickleValue>& values)
      : bytes_(bytes), size_(bytes.size()), source_(source), values_(values) {}

  /// Throws unless `holds`, naming source and position.
  void check(bool holds, std::string_view fault) const;
  /// Throws because of something that weights do not need.
  [[noreturn]] void refuse(const std::string& what) const;

  // ---- bytes

  /// Takes the two bytes with which protocol 2 begins.
  void begin();
  /// Returns the value of the whole pickle.
  const PickleValue* finish();
  std::string_view take(size_t size);
  std::string_view line();
  template <class Number>
  Number number() {
    Number value{};
    std::memcpy(&value, take(sizeof(Number)).data(), sizeof(Number));
    return value;
  }

  // ---- stack

  /// Counts items of tuples, lists and dictionaries, and sizes of tensors.
  void count_places(size_t more);
  PickleValue* make(Kind kind, int64_t integer = 0);
  void push(PickleValue* value);
  PickleValue* pop();
  PickleValue* pop(Kind kind, std::string_view expected);

  // ---- opcodes: each function returns false, and does nothing, for opcodes of the other functions

  /// None, booleans, numbers and texts.
  bool plain_value(uint8_t opcode);
  /// Tuples, lists, dictionaries, and the marks before their items.
  bool container(uint8_t opcode);
  /// Stores a value under a number, and pushes it again.
  bool memo(uint8_t opcode);

 private:
  void check_count(size_t count) const;
  std::vector<const PickleValue*> pop_items(size_t count);
  std::vector<const PickleValue*> pop_to_mark();
  void push_tuple(std::vector<const PickleValue*> items);
  void text();
  void long_integer();
  void append(const std::vector<const PickleValue*>& items);
  void set_items(const std::vector<const PickleValue*>& items);
  void put(uint32_t index);
  void get(uint32_t index);

  std::string_view bytes_;
  size_t size_;
  const std::string& source_;
  std::deque<PickleValue>& values_;
  std::vector<PickleValue*> stack_;
  std::vector<size_t> marks_;
  std::unordered_map<uint32_t, PickleValue*> memo_;
  size_t places_ = 0;
};

}  // namespace transformers
