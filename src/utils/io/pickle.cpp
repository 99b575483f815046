// Follows the pickle protocol 2 of Python and what torch.save of PyTorch 2.11 makes of it
// (torch/_weights_only_unpickler.py).
#include "utils/io/pickle.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <unordered_map>

#include "utils/io/internal/checked_math.h"
#include "utils/io/pickle_globals.h"
#include "utils/text/printable.h"

namespace transformers {
namespace {

using Kind = PickleValue::Kind;

// Bounds on memory: a state dict of 10,000 tensors is a pickle of 1.5 MB with about 200,000 values.
constexpr size_t kMaxBytes = 64 << 20;
constexpr size_t kMaxValues = 1'000'000;
constexpr size_t kMaxPlaces = 4'000'000;  // items of tuples, lists and dictionaries, and sizes of tensors
constexpr size_t kMaxDimensions = 64;
constexpr size_t kMaxKey = 64;  // the key of a storage is a number

/// The machine that a pickle drives: a stack of values, a memo, and marks on the stack.
class Unpickler {
 public:
  Unpickler(std::string_view bytes, const std::string& source, std::deque<PickleValue>& values)
      : bytes_(bytes), size_(bytes.size()), source_(source), values_(values) {}

  const PickleValue* run() {
    check(size_ <= kMaxBytes, "it is larger than 64 MiB");
    check(number<uint8_t>() == 0x80 && number<uint8_t>() == 2, "it does not begin as a pickle of protocol 2");
    while (true) {
      const auto opcode = number<uint8_t>();
      if (opcode == '.') {
        check(stack_.size() == 1 && marks_.empty(), "it does not end with one value");
        return pop();
      }
      step(opcode);
    }
  }

 private:
  void check(bool holds, std::string_view fault) const {
    TORCH_CHECK(holds, source_, ": refused pickle at byte ", size_ - bytes_.size(), ": ", fault,
                "; safetensors files have no such risk");
  }

  [[noreturn]] void refuse(const std::string& what) const {
    check(false, what + ", which is not needed for weights");
    __builtin_unreachable();
  }

  // ---- bytes

  std::string_view take(size_t size) {
    check(size <= bytes_.size(), "a length reaches past its end");
    const auto part = bytes_.substr(0, size);
    bytes_.remove_prefix(size);
    return part;
  }

  template <class Number>
  Number number() {
    Number value{};
    std::memcpy(&value, take(sizeof(Number)).data(), sizeof(Number));
    return value;
  }

  std::string_view line() {
    const auto end = bytes_.find('\n');
    check(end != std::string_view::npos, "a line does not end");
    return take(end + 1).substr(0, end);
  }

  // ---- stack

  void check_count(size_t count) const { check(count < kMaxValues, "it holds more than a million values"); }

  void count_places(size_t more) {
    places_ += more;
    check(places_ <= kMaxPlaces, "its values have more than four million items");
  }

  PickleValue* make(Kind kind, int64_t integer = 0) {
    check_count(values_.size());
    auto& value = values_.emplace_back();
    value.kind = kind;
    value.integer = integer;
    return &value;
  }

  void push(PickleValue* value) {
    check_count(stack_.size());
    stack_.push_back(value);
  }

  PickleValue* pop() {
    check(stack_.size() > (marks_.empty() ? 0 : marks_.back()), "it takes a value from an empty stack");
    auto* value = stack_.back();
    stack_.pop_back();
    return value;
  }

  PickleValue* pop(Kind kind, std::string_view expected) {
    auto* value = pop();
    check(value->kind == kind, expected);
    return value;
  }

  std::vector<const PickleValue*> pop_items(size_t count) {
    count_places(count);
    std::vector<const PickleValue*> items(count);
    for (auto& item : items) {
      item = pop();
    }
    std::ranges::reverse(items);
    return items;
  }

  std::vector<const PickleValue*> pop_to_mark() {
    check(!marks_.empty(), "a mark is missing");
    const auto count = stack_.size() - marks_.back();
    auto items = pop_items(count);
    marks_.pop_back();
    return items;
  }

  void push_tuple(std::vector<const PickleValue*> items) {
    auto* tuple = make(Kind::kTuple);
    tuple->items = std::move(items);
    push(tuple);
  }

  // ---- opcodes

  void step(uint8_t opcode) {
    if (!plain_value(opcode) && !container(opcode) && !reference(opcode)) {
      refuse("it uses the opcode " + std::to_string(opcode));
    }
  }

  /// None, booleans, numbers and texts. False for other opcodes, as the two functions below.
  bool plain_value(uint8_t opcode) {
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

  bool container(uint8_t opcode) {
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

  /// The memo, names of Python's and what is made by them.
  bool reference(uint8_t opcode) {
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
      case 'c':
        global();
        break;
      case 'Q':
        persistent_id();
        break;
      case 'R':
        reduce();
        break;
      case 'b':
        build();
        break;
      default:
        return false;
    }
    return true;
  }

  void text() {
    auto* value = make(Kind::kText);
    value->text = take(number<uint32_t>());
    push(value);
  }

  /// Plain data may hold integers of any length; only those that fit are ever used.
  void long_integer() {
    const auto digits = take(number<uint8_t>());
    if (digits.size() > sizeof(int64_t)) {
      return push(make(Kind::kFloat));
    }
    int64_t value = !digits.empty() && static_cast<int8_t>(digits.back()) < 0 ? -1 : 0;
    std::memcpy(&value, digits.data(), digits.size());
    push(make(Kind::kInteger, value));
  }

  void append(const std::vector<const PickleValue*>& items) {
    auto* list = pop(Kind::kList, "it appends to what is no list");
    list->items.insert(list->items.end(), items.begin(), items.end());
    push(list);
  }

  void set_items(const std::vector<const PickleValue*>& items) {
    check(items.size() % 2 == 0, "a dictionary key has no value");
    auto* dict = pop(Kind::kDict, "it sets an item of what is no dictionary");
    dict->items.insert(dict->items.end(), items.begin(), items.end());
    push(dict);
  }

  void put(uint32_t index) {
    auto* value = pop();
    push(value);
    check_count(memo_.size());
    memo_[index] = value;
  }

  void get(uint32_t index) {
    const auto entry = memo_.find(index);
    check(entry != memo_.end(), "it reads a memo entry that was never written");
    push(entry->second);
  }

  void global() {
    const std::string module(line());
    const auto name = module + " " + std::string(line());
    const auto known = allowed_global(name);
    if (known.empty()) {
      refuse("it names the Python object " + printable(name));
    }
    auto* value = make(Kind::kGlobal);
    value->text = known;
    push(value);
  }

  /// ("storage", type, key, device, element count)
  void persistent_id() {
    const auto& items = pop(Kind::kTuple, "a persistent id is no tuple")->items;
    check(items.size() == 5 && items[0]->text == "storage" && items[1]->kind == Kind::kGlobal &&
              items[2]->kind == Kind::kText && items[2]->text.size() <= kMaxKey && items[4]->kind == Kind::kInteger,
          "a persistent id does not describe a storage");
    const auto dtype = storage_dtype(items[1]->text);
    check(dtype || items[1]->text == "torch.storage UntypedStorage", "a persistent id does not describe a storage");
    const auto bytes = checked_multiply(items[4]->integer, dtype ? static_cast<int64_t>(c10::elementSize(*dtype)) : 1);
    check(bytes && *bytes >= 0, "the size of a storage is negative or overflows");
    auto* storage = make(Kind::kStorage, *bytes);
    storage->text = items[2]->text;
    storage->dtype = dtype.value_or(c10::ScalarType::Undefined);
    push(storage);
  }

  void reduce() {
    auto* tuple = pop(Kind::kTuple, "a call has no argument tuple");
    const auto& arguments = tuple->items;
    const auto callee = pop(Kind::kGlobal, "it calls what is no known function")->text;
    if (callee == "collections OrderedDict") {
      ordered_dict(arguments);
    } else if (callee == "torch._utils _rebuild_tensor_v2") {
      rebuild_tensor(arguments, /*has_dtype=*/false);
    } else if (callee == "torch._utils _rebuild_tensor_v3") {
      rebuild_tensor(arguments, /*has_dtype=*/true);
    } else if (callee == "torch._utils _rebuild_parameter") {
      rebuild_parameter(arguments);
    } else if (callee == "torch Size" || callee == "torch device") {
      push(tuple);
    } else {
      refuse("it calls " + std::string(callee));
    }
  }

  /// An empty one; protocol 2 fills it afterwards.
  void ordered_dict(const std::vector<const PickleValue*>& arguments) {
    check(arguments.empty(), "an OrderedDict has arguments");
    push(make(Kind::kDict));
  }

  void rebuild_parameter(const std::vector<const PickleValue*>& arguments) {
    check(arguments.size() == 3 && arguments[0]->kind == Kind::kTensor, "a Parameter is not made of a tensor");
    auto* parameter = make(Kind::kTensor);
    *parameter = *arguments[0];
    push(parameter);
  }

  /// (storage, offset, size, stride, requires_grad, hooks[, dtype][, metadata])
  void rebuild_tensor(const std::vector<const PickleValue*>& arguments, bool has_dtype) {
    const size_t count = has_dtype ? 7 : 6;
    check(arguments.size() == count || arguments.size() == count + 1, "a tensor has the wrong number of arguments");
    check(arguments[0]->kind == Kind::kStorage && arguments[1]->kind == Kind::kInteger, "a tensor has no storage");
    check(arguments.size() == count || arguments[count]->items.empty(),
          "a tensor is conjugated or negated lazily; save it with resolve_conj() and resolve_neg()");
    auto* tensor = make(Kind::kTensor, arguments[1]->integer);
    tensor->items = {arguments[0]};
    tensor->layout = std::make_shared<const PickleValue::Layout>(
        PickleValue::Layout{.sizes = integers(*arguments[2]), .strides = integers(*arguments[3])});
    tensor->dtype = has_dtype ? dtype_of(*arguments[6]) : arguments[0]->dtype;
    check(tensor->dtype != c10::ScalarType::Undefined, "a tensor has no dtype");
    check_extent(*tensor);
    push(tensor);
  }

  c10::ScalarType dtype_of(const PickleValue& value) const {
    const auto dtype = value.kind == Kind::kGlobal ? named_dtype(value.text) : std::nullopt;
    check(dtype.has_value(), "a tensor has no dtype");
    return *dtype;
  }

  std::vector<int64_t> integers(const PickleValue& tuple) {
    check(tuple.kind == Kind::kTuple && tuple.items.size() <= kMaxDimensions,
          "a size is no tuple of at most 64 integers");
    count_places(tuple.items.size());
    std::vector<int64_t> values;
    values.reserve(tuple.items.size());
    for (const auto* item : tuple.items) {
      check(item->kind == Kind::kInteger && item->integer >= 0, "a size or stride is no integer >= 0");
      values.push_back(item->integer);
    }
    return values;
  }

  /// The last element must lie within the storage, and the elements must not be more than it holds: a small file must
  /// not ask for much memory when a tensor is copied.
  void check_extent(const PickleValue& tensor) const {
    const auto& [sizes, strides] = *tensor.layout;
    check(sizes.size() == strides.size(), "a tensor has not as many strides as sizes");
    const auto item = static_cast<int64_t>(c10::elementSize(tensor.dtype));
    const auto bytes = dense_bytes(sizes, item);
    check(bytes.has_value(), "the size of a tensor overflows");
    const auto capacity = tensor.items[0]->integer / item;
    const auto last = last_element(tensor);
    const bool is_inside = *bytes == 0 ? tensor.integer <= capacity : last && *last < capacity;
    check(tensor.integer >= 0 && is_inside, "a tensor reaches outside its storage");
    check(*bytes <= tensor.items[0]->integer, "a tensor has more elements than its storage");
  }

  static std::optional<int64_t> last_element(const PickleValue& tensor) {
    std::optional<int64_t> last = tensor.integer;
    const auto& [sizes, strides] = *tensor.layout;
    for (size_t d = 0; d < sizes.size(); ++d) {
      const auto distance = checked_multiply(sizes[d] - 1, strides[d]);
      last = last && distance ? checked_add(*last, *distance) : std::nullopt;
    }
    return last;
  }

  /// A state dict carries its `_metadata` as an attribute; nothing in it is needed.
  void build() {
    pop(Kind::kDict, "the state of an object is no dictionary");
    push(pop(Kind::kDict, "it builds what is no dictionary"));
  }

  std::string_view bytes_;
  size_t size_;
  const std::string& source_;
  std::deque<PickleValue>& values_;
  std::vector<PickleValue*> stack_;
  std::vector<size_t> marks_;
  std::unordered_map<uint32_t, PickleValue*> memo_;
  size_t places_ = 0;
};

}  // namespace

std::string_view kind_name(const PickleValue& value) {
  constexpr std::array<std::string_view, 11> kNames{"None", "bool",       "integer", "number",  "text",  "tuple",
                                                    "list", "dictionary", "name",    "storage", "tensor"};
  return kNames[static_cast<size_t>(value.kind)];
}

Pickle::Pickle(std::string_view bytes, const std::string& source) {
  const auto name = printable(source);
  root_ = Unpickler(bytes, name, values_).run();
}

}  // namespace transformers
