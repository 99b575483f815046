#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace transformers {

/// The content of model.safetensors.index.json.
struct ShardIndex {
  std::map<std::string, std::string> weight_map;  // tensor name → file name
  std::optional<double> total_size;               // bytes; some files of HF have a float
  std::optional<int64_t> total_parameters;
};

/// Reads an index; every value of the weight map is then a plain file name. Throws, naming file and key, if it is
/// invalid.
ShardIndex read_shard_index(const std::string& path);
/// The same for a text; `path` names it in errors.
ShardIndex parse_shard_index(std::string_view text, const std::string& path);

/// The text that HF writes: sorted keys, two spaces, ASCII.
std::string shard_index_text(const std::map<std::string, std::string>& weight_map, int64_t total_size,
                             int64_t total_parameters);

}  // namespace transformers
