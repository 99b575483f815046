#pragma once

#include <transformers/utils/files/model_folder.h>

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "utils/json/strict_json.h"

namespace transformers {

/// The JSON of a file of the folder, under the rules of `parse_strict_json`; within `read_one_save` it is parsed once.
/// For small files that several readers need: the result is kept until the next reading.
const nlohmann::ordered_json& folder_json(const ModelFolder& folder, const std::string& name, JsonLimits limits = {});

}  // namespace transformers
