// Mirrors `parallelize` and `deparallelize` of models/gptj/modeling_gptj.py, transformers 4.37.2. Deviations: the
// device map may hold any devices, in any order of blocks; hidden states are moved wherever the device changes, where
// the original moves them to the device of the next number; inputs on another device are moved to the first one.
#include <c10/core/CachingDeviceAllocator.h>
#include <transformers/gptj/modeling_gptj.h>
#include <transformers/utils/nn/device.h>

#include <algorithm>
#include <tuple>

#include "utils/placement/internal/placement.h"

namespace transformers {
namespace {

std::vector<c10::Device> cuda_devices() {
  std::vector<c10::Device> devices;
  for (int64_t i = 0; i < cuda_device_count(); ++i) {
    devices.emplace_back(c10::kCUDA, static_cast<c10::DeviceIndex>(i));
  }
  TORCH_CHECK(!devices.empty(), "parallelize: there is no CUDA device; name devices in a device_map");
  return devices;
}

/// The CPU is ordered before all other devices.
bool comes_before(const BlocksByDevice::value_type& left, const BlocksByDevice::value_type& right) {
  const auto key = [](const c10::Device& device) {
    return std::tuple(!device.is_cpu(), device.type(), device.index());
  };
  return key(left.first) < key(right.first);
}

void check(const BlocksByDevice& device_map, const torch::nn::ModuleList& blocks) {
  assert_device_map(device_map, static_cast<int64_t>(blocks->size()));
  for (const auto& [device, numbers] : device_map) {
    require_device(device);
  }
}

void remove(std::vector<ForwardHooks::HookId>& hooks, ForwardHooks& layer) {
  for (const auto id : hooks) {
    layer.remove_forward_hook(id);
  }
  hooks.clear();
}

}  // namespace

void GPTJModelImpl::parallelize(const BlocksByDevice& wanted) {
  const auto map = wanted.empty() ? get_device_map(static_cast<int64_t>(h->size()), cuda_devices()) : wanted;
  check(map, h);
  const auto [first, last] = std::minmax_element(map.begin(), map.end(), comes_before);
  std::vector<c10::Device> devices(h->size(), first->first);
  for (const auto& [device, blocks] : map) {
    for (const auto block : blocks) {
      devices[static_cast<size_t>(block)] = device;
      move_layer(*h[static_cast<size_t>(block)], device);
    }
  }
  first_device_ = first->first;
  last_device_ = last->first;
  device_map_ = map;
  move_layer(*wte, first_device_);
  move_layer(*ln_f, last_device_);
  remove(embedding_hooks_, *wte);
  remove(norm_hooks_, *ln_f);
  embedding_hooks_ = align_devices(*wte, first_device_);
  norm_hooks_ = align_devices(*ln_f, last_device_);
  set_block_devices(std::move(devices));
}

void GPTJModelImpl::deparallelize() {
  const bool was_on_cuda =
      std::any_of(device_map_.begin(), device_map_.end(), [](const auto& entry) { return entry.first.is_cuda(); });
  set_block_devices({});
  to(c10::kCPU);
  remove(embedding_hooks_, *wte);
  remove(norm_hooks_, *ln_f);
  device_map_.clear();
  first_device_ = last_device_ = c10::kCPU;
  if (was_on_cuda) {
    at::getDeviceAllocator(c10::kCUDA)->emptyCache();
  }
}

void GPTJForCausalLMImpl::parallelize(const BlocksByDevice& device_map) {
  transformer->parallelize(device_map);
  move_layer(*lm_head, transformer->first_device());
  remove(head_hooks_, *lm_head);
  head_hooks_ = align_devices(*lm_head, transformer->first_device());
}

void GPTJForCausalLMImpl::deparallelize() {
  transformer->deparallelize();
  remove(head_hooks_, *lm_head);
  lm_head->to(c10::kCPU);
}

}  // namespace transformers
