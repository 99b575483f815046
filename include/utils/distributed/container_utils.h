#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>
#include <c10/util/Exception.h>
#include <torch/nn/utils/rnn.h>
#include <transformers/export.h>

#include <any>
#include <concepts>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <typeindex>
#include <utility>
#include <variant>
#include <vector>

namespace transformers {
class LeafMapper;
}  // namespace transformers

namespace TRANSFORMERS_API transformers {

// The container half of torch/distributed/utils.py, torch 2.11. Deviations: docs/distributed.md.

using PackedSequence = torch::nn::utils::rnn::PackedSequence;

class Value;

namespace detail {
struct AnyFieldVisitor {
  template <typename Field>
  void operator()(std::string_view, Field&) const {}
};
}  // namespace detail

/// A struct can be stored in a `Value` if a function beside it names its fields:
///
///     template <typename Visit>
///     void visit_fields(Batch& batch, Visit&& visit) {
///       visit("input_ids", batch.input_ids);
///       visit("labels", batch.labels);
///     }
///
/// Fields may have any type from which a `Value` can be made. Fields that the function omits are copied unchanged.
template <typename T>
concept VisitableStruct = !std::same_as<T, Value> && requires(T & object) {
  visit_fields(object, detail::AnyFieldVisitor{});
}
&&std::copyable<T>;

/// std::pair, std::tuple and std::array.
template <typename T>
concept TupleLike = requires {
  std::tuple_size<T>::value;  // NOLINT(modernize-type-traits): the short form is an error where there is none
};
/// std::map, std::unordered_map and similar types.
template <typename T>
concept MapLike = requires {
  typename T::key_type;
  typename T::mapped_type;
};

/// An argument of a model's forward: what Python's helpers find in `args` and `kwargs`. A Value is immutable, and
/// copies share its contents. Depth is bounded only by memory: no function here recurses, destruction included.
class Value {
 public:
  enum class Kind {
    kNone,
    kBool,
    kInt,
    kDouble,
    kString,
    kTensor,
    kPackedSequence,
    kList,
    kTuple,
    kSet,
    kMap,
    kStruct
  };
  using Item = std::pair<Value, Value>;

  Value() = default;         // None
  Value(at::Tensor tensor);  // undefined: None
  Value(PackedSequence sequence);
  template <std::integral T>
  Value(T value) {
    if constexpr (std::same_as<T, bool>) {
      data_ = value;
    } else {
      data_ = static_cast<int64_t>(value);
    }
  }
  template <std::floating_point T>
  Value(T value) : data_(static_cast<double>(value)) {}
  Value(std::string value) : data_(std::move(value)) {}
  Value(std::string_view value) : data_(std::string(value)) {}
  Value(const char* value) : data_(std::string(value)) {}
  template <typename T>
  Value(const std::vector<T>& items) : Value(list(std::vector<Value>(items.begin(), items.end()))) {}
  template <typename T>
  Value(const std::optional<T>& value) : Value(value ? Value(*value) : Value()) {}
  template <TupleLike T>
  Value(const T& members)
      : Value(std::apply([](const auto&... member) { return tuple({Value(member)...}); }, members)) {}
  template <MapLike T>
  Value(const T& entries) : Value(map(std::vector<Item>(entries.begin(), entries.end()))) {}
  template <VisitableStruct T>
  Value(const T& object) : Value(from_struct(object)) {}

  static Value list(std::vector<Value> items);
  static Value tuple(std::vector<Value> items);
  /// Members keep their order; duplicates are dropped. As the keys of a map, they are tensors (compared by identity),
  /// scalars, strings or None.
  static Value set(std::vector<Value> items);
  /// Keeps the order. Throws on a key that occurs twice.
  static Value map(std::vector<Item> items);

  Kind kind() const;
  bool is_none() const { return kind() == Kind::kNone; }

  /// The value as a C++ type: bool, integers, floating types, std::string, at::Tensor (None is the undefined one),
  /// PackedSequence, std::vector and std::optional of these, pairs and tuples, maps, structs, and Value itself. Throws,
  /// naming both kinds, when it has another type. Integers convert to floating types.
  template <typename T>
  T to() const;

  /// The members of a list, tuple or set; the alternating keys and values of a map or struct.
  std::span<const Value> items() const;
  /// The number of members, of entries of a map, or of fields of a struct.
  size_t size() const;
  /// A member of a list, tuple or set.
  const Value& operator[](size_t index) const;
  /// An entry of a map or a field of a struct.
  const Value& at(const Value& key) const;

  /// Whether both are the same leaf: equal scalars or strings, or the same tensor. Containers are the same only if they
  /// are one object.
  bool is(const Value& other) const;

 private:
  struct TRANSFORMERS_PRIVATE Container;
  struct Prototype {
    std::type_index type;
    std::any object;  // its visited fields blank
  };
  friend class LeafMapper;

  explicit Value(std::shared_ptr<Container> container) : data_(std::move(container)) {}
  static Value make_container(Kind kind, std::vector<Value> items);
  static Value make_struct(std::vector<Value> items, std::shared_ptr<const Prototype> prototype);
  const Container* container() const;
  /// Throws unless this is a struct of that type.
  const std::any& prototype(std::type_index type) const;
  [[noreturn]] void refuse(std::string_view expected) const;
  bool to_bool() const;
  int64_t to_int() const;
  double to_double() const;
  const std::string& to_string() const;
  at::Tensor to_tensor() const;
  const PackedSequence& to_packed_sequence() const;
  template <typename T>
  static Value from_struct(const T& object);
  template <typename T>
  T to_struct() const;
  template <typename T>
  std::vector<T> to_vector() const;
  template <typename T>
  T to_tuple() const;
  template <typename T>
  T to_map() const;

  std::variant<std::monostate, bool, int64_t, double, std::string, at::Tensor, PackedSequence,
               std::shared_ptr<Container>>
      data_;
};

using Args = std::vector<Value>;
/// Ordered; names are unique.
using Kwargs = std::vector<std::pair<std::string, Value>>;

struct Arguments {
  Args args{};
  Kwargs kwargs{};
};

struct PackedArguments {
  Args flat_args{};  // positional arguments, then the values of the keywords in the order of their keys
  std::vector<std::string> kwarg_keys{};
};

/// Mirrors `_pack_kwargs`. Throws when a keyword occurs twice.
PackedArguments pack_kwargs(Args args, Kwargs kwargs = {});
/// Mirrors `_unpack_kwargs`. Throws when there are more keys than values or a key occurs twice.
Arguments unpack_kwargs(Args flat_args, std::vector<std::string> kwarg_keys);

/// The container with every tensor replaced by what `fn` returns for it; everything else, keys of maps included, is
/// kept in its order. In a packed sequence the data is replaced; for it `fn` must return a tensor, or None to keep it.
/// Mirrors `_apply_to_tensors`.
Value apply_to_tensors(const std::function<Value(const at::Tensor&)>& fn, const Value& container);

/// Every tensor inside, in order; for packed sequences their data.
std::vector<at::Tensor> tensors_in(const Value& container);

/// Casts floating tensors to `dtype` and leaves everything else unchanged. Without a dtype nothing changes. Mirrors
/// `_cast_forward_inputs`.
Arguments cast_forward_inputs(std::optional<c10::ScalarType> dtype, Args args, Kwargs kwargs = {});

/// The container with every tensor moved to the device, also those in sets, structs and keys of maps. With a side
/// stream, copies from the CPU to an accelerator run on one background stream per device, for which the current stream
/// waits. Mirrors `_recursive_to`, but returns the value itself instead of a list with one element.
Value recursive_to(const Value& inputs, c10::Device target_device, bool use_side_stream_for_tensor_copies = false);

struct MovedArguments {
  std::vector<Args> inputs{};
  std::vector<Kwargs> kwargs{};
};
/// Moves the arguments of a call. Both lists of the result have one entry, or none when there are no arguments at all.
/// Mirrors `_to_kwargs`.
MovedArguments to_kwargs(const Args& inputs, const Kwargs& kwargs, c10::Device target_device,
                         bool use_side_stream_for_tensor_copies = false);

/// If the condition is false, warns with `message` and the place of the call, and then throws it, unless
/// `raise_assertion_error` is false. For places whose exceptions a caller may lose. Mirrors `_p_assert`.
void p_assert(bool condition, std::string_view message, bool raise_assertion_error = true);

template <typename T>
Value Value::from_struct(const T& object) {
  T blank = object;
  std::vector<Value> items;
  visit_fields(blank, [&](std::string_view name, auto& field) {
    items.emplace_back(name);
    items.emplace_back(field);
    field = std::remove_cvref_t<decltype(field)>{};
  });
  return make_struct(std::move(items), std::make_shared<const Prototype>(Prototype{typeid(T), std::move(blank)}));
}

template <typename T>
T Value::to_struct() const {
  T object = std::any_cast<const T&>(prototype(typeid(T)));
  size_t position = 0;
  visit_fields(object, [&](std::string_view, auto& field) {
    field = items()[2 * position++ + 1].template to<std::remove_cvref_t<decltype(field)>>();
  });
  return object;
}

template <typename T>
std::vector<T> Value::to_vector() const {
  if (kind() != Kind::kList && kind() != Kind::kTuple && kind() != Kind::kSet) {
    refuse("list");
  }
  std::vector<T> result;
  result.reserve(items().size());
  for (const auto& item : items()) {
    result.push_back(item.template to<T>());
  }
  return result;
}

template <typename T>
T Value::to_tuple() const {
  constexpr size_t kSize = std::tuple_size_v<T>;
  if ((kind() != Kind::kList && kind() != Kind::kTuple) || size() != kSize) {
    refuse("tuple of " + std::to_string(kSize));
  }
  return [&]<size_t... I>(std::index_sequence<I...>) {
    return T{(*this)[I].template to<std::tuple_element_t<I, T>>()...};
  }
  (std::make_index_sequence<kSize>());
}

template <typename T>
T Value::to_map() const {
  if (kind() != Kind::kMap) {
    refuse("map");
  }
  T result;
  for (size_t i = 0; i + 1 < items().size(); i += 2) {
    result.emplace(items()[i].template to<typename T::key_type>(),
                   items()[i + 1].template to<typename T::mapped_type>());
  }
  return result;
}

namespace detail {
template <typename T>
inline constexpr bool is_vector = false;
template <typename T>
inline constexpr bool is_vector<std::vector<T>> = true;
template <typename T>
inline constexpr bool is_optional = false;
template <typename T>
inline constexpr bool is_optional<std::optional<T>> = true;
}  // namespace detail

template <typename T>
T Value::to() const {
  if constexpr (std::is_same_v<T, Value>) {
    return *this;
  } else if constexpr (std::is_same_v<T, bool>) {
    return to_bool();
  } else if constexpr (std::is_integral_v<T>) {
    TORCH_CHECK(std::in_range<T>(to_int()), "the integer ", to_int(), " does not fit the type it was asked for as");
    return static_cast<T>(to_int());
  } else if constexpr (std::is_floating_point_v<T>) {
    return static_cast<T>(to_double());
  } else if constexpr (std::is_same_v<T, std::string>) {
    return to_string();
  } else if constexpr (std::is_same_v<T, at::Tensor>) {
    return to_tensor();
  } else if constexpr (std::is_same_v<T, PackedSequence>) {
    return to_packed_sequence();
  } else if constexpr (detail::is_vector<T>) {
    return to_vector<typename T::value_type>();
  } else if constexpr (detail::is_optional<T>) {
    return is_none() ? T() : T(to<typename T::value_type>());
  } else if constexpr (TupleLike<T>) {
    return to_tuple<T>();
  } else if constexpr (MapLike<T>) {
    return to_map<T>();
  } else {
    static_assert(VisitableStruct<T>, "a struct needs visit_fields(T&, Visit&&) beside it");
    return to_struct<T>();
  }
}

}  // namespace transformers
