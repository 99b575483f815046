#include "utils/files/internal/json_file.h"

#include <nlohmann/json.hpp>

#include "utils/files/internal/regular_file.h"

namespace transformers {

nlohmann::ordered_json read_json_file(const std::string& path, JsonLimits limits) {
  return parse_strict_json(read_regular_file(path, limits.max_bytes), path, limits);
}

}  // namespace transformers
