#include <algorithm>
#include <array>

#include "utils/io/internal/safetensors_header.h"

namespace transformers {
namespace {

struct Dtype {
  std::string_view name;
  c10::ScalarType type;
};

/// In the order in which safetensors 0.8.0 writes them: larger alignment first, then its own order.
constexpr std::array kDtypes{
    Dtype{"U64", c10::ScalarType::UInt64},
    Dtype{"I64", c10::ScalarType::Long},
    Dtype{"F64", c10::ScalarType::Double},
    Dtype{"C64", c10::ScalarType::ComplexFloat},
    Dtype{"F32", c10::ScalarType::Float},
    Dtype{"U32", c10::ScalarType::UInt32},
    Dtype{"I32", c10::ScalarType::Int},
    Dtype{"BF16", c10::ScalarType::BFloat16},
    Dtype{"F16", c10::ScalarType::Half},
    Dtype{"U16", c10::ScalarType::UInt16},
    Dtype{"I16", c10::ScalarType::Short},
    Dtype{"F8_E5M2FNUZ", c10::ScalarType::Float8_e5m2fnuz},
    Dtype{"F8_E4M3FNUZ", c10::ScalarType::Float8_e4m3fnuz},
    Dtype{"F8_E8M0", c10::ScalarType::Float8_e8m0fnu},
    Dtype{"F8_E4M3", c10::ScalarType::Float8_e4m3fn},
    Dtype{"F8_E5M2", c10::ScalarType::Float8_e5m2},
    Dtype{"I8", c10::ScalarType::Char},
    Dtype{"U8", c10::ScalarType::Byte},
    Dtype{"BOOL", c10::ScalarType::Bool},
};

}  // namespace

size_t safetensors_rank(c10::ScalarType dtype) {
  return std::ranges::find_if(kDtypes, [&](const Dtype& entry) { return entry.type == dtype; }) - kDtypes.begin();
}

std::string_view safetensors_name(c10::ScalarType dtype) {
  const auto rank = safetensors_rank(dtype);
  return rank < kDtypes.size() ? kDtypes[rank].name : "";
}

std::optional<c10::ScalarType> safetensors_dtype(std::string_view name) {
  const auto* entry = std::ranges::find_if(kDtypes, [&](const Dtype& candidate) { return candidate.name == name; });
  return entry == kDtypes.end() ? std::nullopt : std::optional(entry->type);
}

}  // namespace transformers
