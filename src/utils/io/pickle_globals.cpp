#include "utils/io/pickle_globals.h"

#include <algorithm>
#include <array>
#include <span>

namespace transformers {
namespace {

using c10::ScalarType;

struct Named {
  std::string_view global;
  ScalarType dtype;
};

constexpr std::array kStorages{
    Named{"torch FloatStorage", ScalarType::Float},
    Named{"torch DoubleStorage", ScalarType::Double},
    Named{"torch HalfStorage", ScalarType::Half},
    Named{"torch BFloat16Storage", ScalarType::BFloat16},
    Named{"torch LongStorage", ScalarType::Long},
    Named{"torch IntStorage", ScalarType::Int},
    Named{"torch ShortStorage", ScalarType::Short},
    Named{"torch CharStorage", ScalarType::Char},
    Named{"torch ByteStorage", ScalarType::Byte},
    Named{"torch BoolStorage", ScalarType::Bool},
    Named{"torch ComplexFloatStorage", ScalarType::ComplexFloat},
    Named{"torch ComplexDoubleStorage", ScalarType::ComplexDouble},
};

constexpr std::array kDtypes{
    Named{"torch float32", ScalarType::Float},
    Named{"torch float64", ScalarType::Double},
    Named{"torch float16", ScalarType::Half},
    Named{"torch bfloat16", ScalarType::BFloat16},
    Named{"torch int64", ScalarType::Long},
    Named{"torch int32", ScalarType::Int},
    Named{"torch int16", ScalarType::Short},
    Named{"torch int8", ScalarType::Char},
    Named{"torch uint8", ScalarType::Byte},
    Named{"torch uint16", ScalarType::UInt16},
    Named{"torch uint32", ScalarType::UInt32},
    Named{"torch uint64", ScalarType::UInt64},
    Named{"torch bool", ScalarType::Bool},
    Named{"torch complex64", ScalarType::ComplexFloat},
    Named{"torch complex128", ScalarType::ComplexDouble},
    Named{"torch float8_e4m3fn", ScalarType::Float8_e4m3fn},
    Named{"torch float8_e5m2", ScalarType::Float8_e5m2},
    Named{"torch float8_e4m3fnuz", ScalarType::Float8_e4m3fnuz},
    Named{"torch float8_e5m2fnuz", ScalarType::Float8_e5m2fnuz},
    Named{"torch float8_e8m0fnu", ScalarType::Float8_e8m0fnu},
};

constexpr std::array<std::string_view, 7> kOthers{
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_tensor_v3",
    "torch._utils _rebuild_parameter",
    "torch.storage UntypedStorage",
    "torch Size",
    "torch device",
};

const Named* find(std::span<const Named> names, std::string_view global) {
  const auto found = std::ranges::find_if(names, [&](const Named& n) { return n.global == global; });
  return found == names.end() ? nullptr : &*found;
}

std::optional<ScalarType> dtype_of(const Named* found) {
  return found == nullptr ? std::nullopt : std::optional(found->dtype);
}

}  // namespace

std::optional<ScalarType> storage_dtype(std::string_view global) { return dtype_of(find(kStorages, global)); }

std::optional<ScalarType> named_dtype(std::string_view global) { return dtype_of(find(kDtypes, global)); }

std::string_view allowed_global(std::string_view global) {
  if (const auto* other = std::ranges::find(kOthers, global); other != kOthers.end()) {
    return *other;
  }
  const auto* storage = find(kStorages, global);
  const auto* named = storage != nullptr ? storage : find(kDtypes, global);
  return named == nullptr ? std::string_view() : named->global;
}

}  // namespace transformers
