#include "utils/io/shard_index.h"

#include <c10/util/Exception.h>

#include <nlohmann/json.hpp>

#include "utils/files/internal/file_name.h"
#include "utils/files/internal/regular_file.h"
#include "utils/json/strict_json.h"

namespace transformers {
namespace {

constexpr size_t kMaxIndexBytes = 64 << 20;

}  // namespace

ShardIndex read_shard_index(const std::string& path) {
  return parse_shard_index(read_regular_file(path, kMaxIndexBytes), path);
}

ShardIndex parse_shard_index(std::string_view text, const std::string& path) {
  const auto json = parse_strict_json(text, path, {.max_bytes = kMaxIndexBytes});
  const auto source = printable(path);
  TORCH_CHECK(json.is_object(), source, ": expected an object, found ", json.type_name());
  TORCH_CHECK(json.contains("weight_map"), source, ": key weight_map is missing");
  const auto& map = json["weight_map"];
  TORCH_CHECK(map.is_object(), source, ": weight_map must be an object, found ", map.type_name());

  ShardIndex index;
  for (const auto& [name, file] : map.items()) {
    const auto where = source + ": weight_map: " + printable(name);
    TORCH_CHECK(file.is_string(), where, ": expected a plain file name, found ", file.type_name());
    check_plain_file_name(file.get_ref<const std::string&>(), where);
    index.weight_map.emplace(name, file.get<std::string>());
  }
  // The value is only informative, so one that is not a number of bytes is ignored.
  const auto metadata = json.value("metadata", nlohmann::ordered_json::object());
  if (metadata.is_object() && metadata.contains("total_size") && metadata["total_size"].is_number()) {
    const auto bytes = metadata["total_size"].get<double>();
    index.total_size = bytes >= 0 && bytes < 9e18 ? std::make_optional(bytes) : std::nullopt;
  }
  if (metadata.is_object() && metadata.contains("total_parameters") &&
      metadata["total_parameters"].is_number_unsigned()) {
    index.total_parameters = metadata["total_parameters"].get<int64_t>();
  }
  return index;
}

std::string shard_index_text(const std::map<std::string, std::string>& weight_map, int64_t total_size,
                             int64_t total_parameters) {
  const nlohmann::json index{{"metadata", {{"total_parameters", total_parameters}, {"total_size", total_size}}},
                             {"weight_map", weight_map}};
  return index.dump(/*indent=*/2, ' ', /*ensure_ascii=*/true) + "\n";
}

}  // namespace transformers
