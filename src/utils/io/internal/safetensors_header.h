#pragma once

#include <c10/core/ScalarType.h>
#include <transformers/utils/io/tensor_file.h>

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace transformers {

constexpr size_t kMaxSafetensorsHeader = 100'000'000;
constexpr std::string_view kSafetensorsMetadata = "__metadata__";

struct SafetensorsEntry {
  TensorInfo info;
  size_t begin = 0;  // byte offset in the file
};

struct SafetensorsHeader {
  std::map<std::string, std::string> metadata;
  std::vector<SafetensorsEntry> entries;  // in the order of the data
};

/// Parses and checks everything in a file except the values of its tensors. `source` names the file in errors.
SafetensorsHeader parse_safetensors(std::string_view file, const std::string& source);

/// The format's name for a dtype; empty when it has none.
std::string_view safetensors_name(c10::ScalarType dtype);
std::optional<c10::ScalarType> safetensors_dtype(std::string_view name);
/// Position of a dtype in the order in which the reference library writes tensors.
size_t safetensors_rank(c10::ScalarType dtype);

}  // namespace transformers
