// The tagged union `Value`. A leaf is held directly in a std::variant whose alternatives have the order of `Kind`; a
// list, tuple, set, map or struct is a shared immutable Container (keys and values in turn where there are keys).
// Nothing here recurses: destruction and map_leaves keep a stack of their own, so depth is bounded by memory only.
#include <transformers/utils/distributed/container_utils.h>

#include <functional>
#include <unordered_set>

#include "utils/distributed/map_leaves.h"

namespace transformers {

struct Value::Container {
  Container(Kind container_kind, std::vector<Value> members, std::shared_ptr<const Prototype> origin)
      : kind(container_kind), items(std::move(members)), prototype(std::move(origin)) {}
  Container(const Container&) = delete;
  Container& operator=(const Container&) = delete;
  ~Container();

  bool has_keys() const { return kind == Kind::kMap || kind == Kind::kStruct; }

  Kind kind;
  std::vector<Value> items;  // of a map or struct: key, value, key, value
  std::shared_ptr<const Prototype> prototype;
};

// Before a container is destroyed, the members that it alone owns are moved out of it, so that destructors do not nest.
Value::Container::~Container() {
  auto pending = std::move(items);
  while (!pending.empty()) {
    const Value value = std::move(pending.back());
    pending.pop_back();
    if (const auto* shared = std::get_if<std::shared_ptr<Container>>(&value.data_);
        shared && shared->use_count() == 1) {
      auto& members = (*shared)->items;
      pending.insert(pending.end(), std::make_move_iterator(members.begin()), std::make_move_iterator(members.end()));
      members.clear();
    }
  }
}

namespace {

std::string_view name_of(Value::Kind kind) {
  switch (kind) {
    case Value::Kind::kNone:
      return "None";
    case Value::Kind::kBool:
      return "bool";
    case Value::Kind::kInt:
      return "int";
    case Value::Kind::kDouble:
      return "float";
    case Value::Kind::kString:
      return "string";
    case Value::Kind::kTensor:
      return "tensor";
    case Value::Kind::kPackedSequence:
      return "packed sequence";
    case Value::Kind::kList:
      return "list";
    case Value::Kind::kTuple:
      return "tuple";
    case Value::Kind::kSet:
      return "set";
    case Value::Kind::kMap:
      return "map";
    case Value::Kind::kStruct:
      return "struct";
  }
  return "unknown";
}

struct SameLeaf {
  bool operator()(const Value* first, const Value* second) const { return first->is(*second); }
};
struct LeafHash {
  size_t operator()(const Value* value) const {
    switch (value->kind()) {
      case Value::Kind::kBool:
        return std::hash<bool>()(value->to<bool>());
      case Value::Kind::kInt:
        return std::hash<int64_t>()(value->to<int64_t>());
      case Value::Kind::kDouble:
        return std::hash<double>()(value->to<double>());
      case Value::Kind::kString:
        return std::hash<std::string>()(value->to<std::string>());
      case Value::Kind::kTensor:
        return std::hash<const void*>()(value->to<at::Tensor>().unsafeGetTensorImpl());
      default:
        return 0;
    }
  }
};
using LeafSet = std::unordered_set<const Value*, LeafHash, SameLeaf>;

void check_hashable(const Value& value, std::string_view role) {
  TORCH_CHECK(value.kind() <= Value::Kind::kTensor, role, " must be a tensor, scalar, string or None, got a ",
              name_of(value.kind()));
}

std::vector<Value> without_duplicates(std::vector<Value> items) {
  LeafSet seen;
  std::vector<bool> first(items.size());
  for (size_t i = 0; i < items.size(); ++i) {
    first[i] = seen.insert(&items[i]).second;
  }
  std::vector<Value> kept;
  for (size_t i = 0; i < items.size(); ++i) {
    if (first[i]) {
      kept.push_back(items[i]);
    }
  }
  return kept;
}

}  // namespace

Value::Value(at::Tensor tensor) {
  if (tensor.defined()) {
    data_ = std::move(tensor);
  }
}
Value::Value(PackedSequence sequence) : data_(std::move(sequence)) {}

Value Value::make_container(Kind kind, std::vector<Value> items) {
  return Value(std::make_shared<Container>(kind, std::move(items), nullptr));
}
Value Value::make_struct(std::vector<Value> items, std::shared_ptr<const Prototype> prototype) {
  return Value(std::make_shared<Container>(Kind::kStruct, std::move(items), std::move(prototype)));
}

Value Value::list(std::vector<Value> items) { return make_container(Kind::kList, std::move(items)); }
Value Value::tuple(std::vector<Value> items) { return make_container(Kind::kTuple, std::move(items)); }

Value Value::set(std::vector<Value> items) {
  for (const auto& item : items) {
    check_hashable(item, "a member of a set");
  }
  return make_container(Kind::kSet, without_duplicates(std::move(items)));
}

Value Value::map(std::vector<Item> items) {
  LeafSet keys;
  std::vector<Value> flat;
  flat.reserve(2 * items.size());
  for (auto& [key, value] : items) {
    check_hashable(key, "a key of a map");
    TORCH_CHECK(keys.insert(&key).second, "a map holds each key once, got ",
                key.kind() == Kind::kString ? "'" + key.to_string() + "'" : std::string(name_of(key.kind())), " twice");
    flat.push_back(key);
    flat.push_back(std::move(value));
  }
  return make_container(Kind::kMap, std::move(flat));
}

const Value::Container* Value::container() const {
  const auto* shared = std::get_if<std::shared_ptr<Container>>(&data_);
  return shared ? shared->get() : nullptr;
}

Value::Kind Value::kind() const {
  const auto* inside = container();
  return inside ? inside->kind : static_cast<Kind>(data_.index());  // leaves stand in the order of Kind
}

void Value::refuse(std::string_view expected) const {
  TORCH_CHECK(false, "a value was asked for as ", expected, ", it is a ", name_of(kind()));
}

bool Value::to_bool() const { return kind() == Kind::kBool ? std::get<bool>(data_) : (refuse("bool"), false); }
int64_t Value::to_int() const { return kind() == Kind::kInt ? std::get<int64_t>(data_) : (refuse("int"), 0); }
double Value::to_double() const {
  if (kind() == Kind::kInt) {
    return static_cast<double>(std::get<int64_t>(data_));
  }
  return kind() == Kind::kDouble ? std::get<double>(data_) : (refuse("float"), 0);
}
const std::string& Value::to_string() const {
  if (kind() != Kind::kString) {
    refuse("string");
  }
  return std::get<std::string>(data_);
}
at::Tensor Value::to_tensor() const {
  if (kind() != Kind::kTensor && kind() != Kind::kNone) {
    refuse("tensor");
  }
  return is_none() ? at::Tensor() : std::get<at::Tensor>(data_);
}
const PackedSequence& Value::to_packed_sequence() const {
  if (kind() != Kind::kPackedSequence) {
    refuse("packed sequence");
  }
  return std::get<PackedSequence>(data_);
}

const std::any& Value::prototype(std::type_index type) const {
  if (kind() != Kind::kStruct) {
    refuse("struct");
  }
  TORCH_CHECK(container()->prototype->type == type, "a struct was asked for as ", c10::demangle(type.name()),
              ", it is a ", c10::demangle(container()->prototype->type.name()));
  return container()->prototype->object;
}

std::span<const Value> Value::items() const {
  if (!container()) {
    refuse("container");
  }
  return container()->items;
}

size_t Value::size() const { return items().size() / (container()->has_keys() ? 2 : 1); }

const Value& Value::operator[](size_t index) const {
  const auto members = items();
  if (container()->has_keys()) {
    refuse("list");
  }
  TORCH_CHECK(index < members.size(), "index ", index, " is out of range of a ", name_of(kind()), " of ",
              members.size());
  return members[index];
}

const Value& Value::at(const Value& key) const {
  const auto members = items();
  if (!container()->has_keys()) {
    refuse("map");
  }
  for (size_t i = 0; i < members.size(); i += 2) {
    if (members[i].is(key)) {
      return members[i + 1];
    }
  }
  TORCH_CHECK(false, "a ", name_of(kind()), " holds no key ",
              key.kind() == Kind::kString ? "'" + key.to_string() + "'" : std::string(name_of(key.kind())));
}

bool Value::is(const Value& other) const {
  if (kind() != other.kind()) {
    return false;
  }
  switch (kind()) {
    case Kind::kNone:
      return true;
    case Kind::kBool:
      return to_bool() == other.to_bool();
    case Kind::kInt:
      return to_int() == other.to_int();
    case Kind::kDouble:
      return to_double() == other.to_double();
    case Kind::kString:
      return to_string() == other.to_string();
    case Kind::kTensor:
      return to_tensor().is_same(other.to_tensor());
    case Kind::kPackedSequence:
      return to_packed_sequence().data().is_same(other.to_packed_sequence().data());
    default:
      return container() == other.container();
  }
}

/// Rebuilds a value with its leaves replaced. It keeps a stack of its own, because values may be nested more deeply
/// than the thread's stack allows.
class LeafMapper {
 public:
  LeafMapper(bool with_keys, const std::function<Value(const Value&)>& leaf) : with_keys_(with_keys), leaf_(leaf) {}

  Value map(const Value& root) {
    visit(root);
    while (!open_.empty()) {
      advance(open_.back());
    }
    return std::move(result_);
  }

 private:
  /// A container under construction, with its finished items.
  struct Frame {
    const Value::Container* source;
    std::vector<Value> done;
  };

  void visit(const Value& value) {
    if (const auto* container = value.container()) {
      open_.push_back({container, {}});
      open_.back().done.reserve(container->items.size());
    } else {
      finish(leaf_(value));
    }
  }

  void finish(Value value) {
    if (open_.empty()) {
      result_ = std::move(value);
    } else {
      open_.back().done.push_back(std::move(value));
    }
  }

  void advance(Frame& frame) {
    const auto position = frame.done.size();
    if (position == frame.source->items.size()) {
      auto value = rebuilt(frame);
      open_.pop_back();
      finish(std::move(value));
    } else if (is_kept_key(frame, position)) {
      frame.done.push_back(frame.source->items[position]);
    } else {
      visit(frame.source->items[position]);
    }
  }

  bool is_kept_key(const Frame& frame, size_t position) const {
    return frame.source->has_keys() && position % 2 == 0 && (!with_keys_ || frame.source->kind == Value::Kind::kStruct);
  }

  static Value rebuilt(Frame& frame) {
    const auto& source = *frame.source;
    if (source.kind == Value::Kind::kStruct) {
      return Value::make_struct(std::move(frame.done), source.prototype);
    }
    return source.kind == Value::Kind::kSet ? Value::set(std::move(frame.done))
                                            : Value::make_container(source.kind, std::move(frame.done));
  }

  bool with_keys_;
  const std::function<Value(const Value&)>& leaf_;
  std::vector<Frame> open_;
  Value result_;
};

Value map_leaves(const Value& root, bool with_keys, const std::function<Value(const Value&)>& leaf) {
  return LeafMapper(with_keys, leaf).map(root);
}

}  // namespace transformers
