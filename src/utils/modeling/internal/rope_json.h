#pragma once

#include <transformers/utils/modeling/rope.h>

#include "utils/json/config_reader.h"
#include "utils/json/config_writer.h"

namespace transformers {

/// Combines `rope_parameters`, `rope_scaling` (which takes precedence), `rope_theta`, `partial_rotary_factor` and
/// `original_max_position_embeddings` of a config, as HF's `standardize_rope_params` does.
RopeParameters read_rope_parameters(ConfigReader& reader, int64_t max_position_embeddings);

/// Writes `rope_parameters`; for transformers 4.x `rope_theta` and `rope_scaling`.
void write_rope_parameters(ConfigWriter& writer, const RopeParameters& parameters);

}  // namespace transformers
