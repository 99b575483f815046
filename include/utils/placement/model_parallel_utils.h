#pragma once

#include <c10/core/Device.h>
#include <transformers/export.h>

#include <cstdint>
#include <utility>
#include <vector>

namespace TRANSFORMERS_API transformers {

// Mirrors utils/model_parallel_utils.py, transformers 4.37.2.

/// The blocks of each device: Python's {0: [0, 1], 1: [2, 3]}.
using BlocksByDevice = std::vector<std::pair<c10::Device, std::vector<int64_t>>>;

/// Assigns consecutive blocks, ⌈n_layers / devices⌉ per device; the last devices may get fewer or none.
BlocksByDevice get_device_map(int64_t n_layers, const std::vector<c10::Device>& devices);

/// Throws when a block is listed more than once, else when one of [0, num_blocks) is missing, else when there are
/// others. The error lists their numbers.
void assert_device_map(const BlocksByDevice& device_map, int64_t num_blocks);

}  // namespace transformers
