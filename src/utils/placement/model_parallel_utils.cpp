// Mirrors utils/model_parallel_utils.py, transformers 4.37.2. Deviation: no device at all is an error of its own.
#include <c10/util/Exception.h>
#include <transformers/utils/placement/model_parallel_utils.h>

#include <algorithm>
#include <string>

namespace transformers {
namespace {

std::string listed(const std::vector<int64_t>& blocks) {
  std::string text;
  for (const auto block : blocks) {
    text += (text.empty() ? "[" : ", ") + std::to_string(block);
  }
  return text + "]";
}

bool holds(const std::vector<int64_t>& blocks, int64_t block) {
  return std::find(blocks.begin(), blocks.end(), block) != blocks.end();
}

}  // namespace

BlocksByDevice get_device_map(int64_t n_layers, const std::vector<c10::Device>& devices) {
  TORCH_CHECK(!devices.empty(), "get_device_map: there is no device to give ", n_layers, " blocks to");
  const auto count = static_cast<int64_t>(devices.size());
  const auto per_device = (n_layers + count - 1) / count;
  BlocksByDevice map;
  for (int64_t block = 0; block < n_layers; ++block) {
    if (block % per_device == 0) {
      map.emplace_back(devices[map.size()], std::vector<int64_t>());
    }
    map.back().second.push_back(block);
  }
  return map;
}

void assert_device_map(const BlocksByDevice& device_map, int64_t num_blocks) {
  std::vector<int64_t> named, twice, missing, extra;
  for (const auto& [device, blocks] : device_map) {
    for (const auto block : blocks) {
      if (!holds(named, block)) {
        named.push_back(block);
      } else if (!holds(twice, block)) {
        twice.push_back(block);
      }
      if (block < 0 || block >= num_blocks) {
        extra.push_back(block);
      }
    }
  }
  for (int64_t block = 0; block < num_blocks; ++block) {
    if (!holds(named, block)) {
      missing.push_back(block);
    }
  }
  TORCH_CHECK(twice.empty(),
              "device_map: a block lies on one device, these are listed more than once: ", listed(twice));
  TORCH_CHECK(missing.empty(), "device_map: these of ", num_blocks, " blocks have no device: ", listed(missing));
  TORCH_CHECK(extra.empty(), "device_map: the model has ", num_blocks, " blocks, not these: ", listed(extra));
}

}  // namespace transformers
