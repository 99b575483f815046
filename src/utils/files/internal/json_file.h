#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "utils/json/strict_json.h"

namespace transformers {

/// The JSON value of a regular file, under the rules of `parse_strict_json`; `path` is the source in errors.
nlohmann::ordered_json read_json_file(const std::string& path, JsonLimits limits = {});

}  // namespace transformers
