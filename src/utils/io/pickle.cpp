// Follows the pickle protocol 2 of Python and what torch.save of PyTorch 2.11 makes of it
// (torch/_weights_only_unpickler.py).
#include "utils/io/pickle.h"

#include <c10/util/Exception.h>

#include <array>
#include <optional>

#include "utils/io/internal/checked_math.h"
#include "utils/io/pickle_globals.h"
#include "utils/io/pickle_machine.h"
#include "utils/text/printable.h"

namespace transformers {
namespace {

constexpr size_t kMaxDimensions = 64;
constexpr size_t kMaxKey = 64;  // the key of a storage is a number

/// Reads what torch.save writes: plain data, and the storages and tensors that calls of listed functions make.
class Unpickler : PickleMachine {
 public:
  Unpickler(std::string_view bytes, const std::string& source, std::deque<PickleValue>& values)
      : PickleMachine(bytes, source, values) {}

  const PickleValue* run() {
    begin();
    while (true) {
      const auto opcode = number<uint8_t>();
      if (opcode == '.') {
        return finish();
      }
      step(opcode);
    }
  }

 private:
  void step(uint8_t opcode) {
    if (!plain_value(opcode) && !container(opcode) && !memo(opcode) && !object(opcode)) {
      refuse("it uses the opcode " + std::to_string(opcode));
    }
  }

  /// Names of Python objects, and the calls that use them.
  bool object(uint8_t opcode) {
    switch (opcode) {
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

  /// The dictionary is empty; protocol 2 fills it afterwards.
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

  /// The last element must be inside the storage, and there must not be more elements than the storage holds: a small
  /// file must not request much memory when a tensor is copied.
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

  /// A state dict has its `_metadata` as an attribute; nothing in it is needed.
  void build() {
    pop(Kind::kDict, "the state of an object is no dictionary");
    push(pop(Kind::kDict, "it builds what is no dictionary"));
  }
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
