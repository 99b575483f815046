#include "utils/io/pickle_machine.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <utility>

namespace transformers {
namespace {

// Bounds on memory: a state dict of 10,000 tensors is a pickle of 1.5 MB with about 200,000 values.
constexpr size_t kMaxBytes = 64 << 20;
constexpr size_t kMaxValues = 1'000'000;
constexpr size_t kMaxPlaces = 4'000'000;  // items of tuples, lists and dictionaries, and sizes of tensors

}  // namespace

void PickleMachine::check(bool holds, std::string_view fault) const {
  TORCH_CHECK(holds, source_, ": refused pickle at byte ", size_ - bytes_.size(), ": ", fault,
              "; safetensors files have no such risk");
}

void PickleMachine::refuse(const std::string& what) const {
  check(false, what + ", which is not needed for weights");
  __builtin_unreachable();
}

void PickleMachine::begin() {
  check(size_ <= kMaxBytes, "it is larger than 64 MiB");
  check(number<uint8_t>() == 0x80 && number<uint8_t>() == 2, "it does not begin as a pickle of protocol 2");
}

const PickleValue* PickleMachine::finish() {
  check(stack_.size() == 1 && marks_.empty(), "it does not end with one value");
  return pop();
}

std::string_view PickleMachine::take(size_t size) {
  check(size <= bytes_.size(), "a length reaches past its end");
  const auto part = bytes_.substr(0, size);
  bytes_.remove_prefix(size);
  return part;
}

std::string_view PickleMachine::line() {
  const auto end = bytes_.find('\n');
  check(end != std::string_view::npos, "a line does not end");
  return take(end + 1).substr(0, end);
}

void PickleMachine::check_count(size_t count) const {
  check(count < kMaxValues, "it holds more than a million values");
}

void PickleMachine::count_places(size_t more) {
  places_ += more;
  check(places_ <= kMaxPlaces, "its values have more than four million items");
}

PickleValue* PickleMachine::make(Kind kind, int64_t integer) {
  check_count(values_.size());
  auto& value = values_.emplace_back();
  value.kind = kind;
  value.integer = integer;
  return &value;
}

void PickleMachine::push(PickleValue* value) {
  check_count(stack_.size());
  stack_.push_back(value);
}

PickleValue* PickleMachine::pop() {
  check(stack_.size() > (marks_.empty() ? 0 : marks_.back()), "it takes a value from an empty stack");
  auto* value = stack_.back();
  stack_.pop_back();
  return value;
}

PickleValue* PickleMachine::pop(Kind kind, std::string_view expected) {
  auto* value = pop();
  check(value->kind == kind, expected);
  return value;
}

std::vector<const PickleValue*> PickleMachine::pop_items(size_t count) {
  count_places(count);
  std::vector<const PickleValue*> items(count);
  for (auto& item : items) {
    item = pop();
  }
  std::ranges::reverse(items);
  return items;
}

std::vector<const PickleValue*> PickleMachine::pop_to_mark() {
  check(!marks_.empty(), "a mark is missing");
  const auto count = stack_.size() - marks_.back();
  auto items = pop_items(count);
  marks_.pop_back();
  return items;
}

void PickleMachine::push_tuple(std::vector<const PickleValue*> items) {
  auto* tuple = make(Kind::kTuple);
  tuple->items = std::move(items);
  push(tuple);
}

bool PickleMachine::plain_value(uint8_t opcode) {
  switch (opcode) {
    case 'N':
      push(make(Kind::kNone));
      break;
    case 0x88:
    case 0x89:
      push(make(Kind::kBool, opcode == 0x88));
      break;
    case 'K':
      push(make(Kind::kInteger, number<uint8_t>()));
      break;
    case 'M':
      push(make(Kind::kInteger, number<uint16_t>()));
      break;
    case 'J':
      push(make(Kind::kInteger, number<int32_t>()));
      break;
    case 0x8a:
      long_integer();
      break;
    case 'G':
      take(8);
      push(make(Kind::kFloat));
      break;
    case 'X':
      text();
      break;
    default:
      return false;
  }
  return true;
}

bool PickleMachine::container(uint8_t opcode) {
  switch (opcode) {
    case '(':
      check_count(marks_.size());
      marks_.push_back(stack_.size());
      break;
    case ')':
      push_tuple({});
      break;
    case 0x85:
    case 0x86:
    case 0x87:
      push_tuple(pop_items(opcode - 0x84));
      break;
    case 't':
      push_tuple(pop_to_mark());
      break;
    case ']':
      push(make(Kind::kList));
      break;
    case '}':
      push(make(Kind::kDict));
      break;
    case 'a':
      append(pop_items(1));
      break;
    case 'e':
      append(pop_to_mark());
      break;
    case 's':
      set_items(pop_items(2));
      break;
    case 'u':
      set_items(pop_to_mark());
      break;
    default:
      return false;
  }
  return true;
}

bool PickleMachine::memo(uint8_t opcode) {
  switch (opcode) {
    case 'q':
      put(number<uint8_t>());
      break;
    case 'r':
      put(number<uint32_t>());
      break;
    case 'h':
      get(number<uint8_t>());
      break;
    case 'j':
      get(number<uint32_t>());
      break;
    default:
      return false;
  }
  return true;
}

void PickleMachine::text() {
  auto* value = make(Kind::kText);
  value->text = take(number<uint32_t>());
  push(value);
}

/// Plain data may hold integers of any length; only those that fit are ever used.
void PickleMachine::long_integer() {
  const auto digits = take(number<uint8_t>());
  if (digits.size() > sizeof(int64_t)) {
    return push(make(Kind::kFloat));
  }
  int64_t value = !digits.empty() && static_cast<int8_t>(digits.back()) < 0 ? -1 : 0;
  std::memcpy(&value, digits.data(), digits.size());
  push(make(Kind::kInteger, value));
}

void PickleMachine::append(const std::vector<const PickleValue*>& items) {
  auto* list = pop(Kind::kList, "it appends to what is no list");
  list->items.insert(list->items.end(), items.begin(), items.end());
  push(list);
}

void PickleMachine::set_items(const std::vector<const PickleValue*>& items) {
  check(items.size() % 2 == 0, "a dictionary key has no value");
  auto* dict = pop(Kind::kDict, "it sets an item of what is no dictionary");
  dict->items.insert(dict->items.end(), items.begin(), items.end());
  push(dict);
}

void PickleMachine::put(uint32_t index) {
  auto* value = pop();
  push(value);
  check_count(memo_.size());
  memo_[index] = value;
}

void PickleMachine::get(uint32_t index) {
  const auto entry = memo_.find(index);
  check(entry != memo_.end(), "it reads a memo entry that was never written");
  push(entry->second);
}

}  // namespace transformers
