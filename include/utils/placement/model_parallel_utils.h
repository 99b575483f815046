#pragma once

#include <c10/core/Device.h>
#include <transformers/export.h>

#include <cstdint>
#include <utility>
#include <vector>

namespace TRANSFORMERS_API transformers {

// Mirrors utils/model_parallel_utils.py, transformers 4.37.2.

/// Which blocks a device holds, device by device: what Python writes as {0: [0, 1], 1: [2, 3]}.
using BlocksByDevice = std::vector<std::pair<c10::Device, std::vector<int64_t>>>;

/// Consecutive blocks for each device, ⌈n_layers / devices⌉ a device; the last devices may get fewer or be left out.
BlocksByDevice get_device_map(int64_t n_layers, const std::vector<c10::Device>& devices);

/// Throws when a block stands in the map more than once, else when one of [0, num_blocks) is missing, else when there
/// are others. The error lists their numbers.
void assert_device_map(const BlocksByDevice& device_map, int64_t num_blocks);

}  // namespace transformers
