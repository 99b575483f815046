// Mirrors integrations/accelerate.py, transformers 5.23.0, and utils/modeling.py, accelerate 1.15. Deviation: a name
// that is not a module of the model is an error, where Python warns.
#include <ATen/ops/empty.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <torch/nn/module.h>
#include <transformers/utils/nn/device.h>
#include <transformers/utils/nn/module.h>
#include <transformers/utils/placement/device_map.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <unordered_map>
#include <unordered_set>

#include "utils/text/printable.h"

namespace transformers {
namespace {

constexpr std::array<std::string_view, 4> kStrategies{"auto", "balanced", "balanced_low_0", "sequential"};

c10::Device device_of_name(const std::string& name) {
  const bool is_known =
      name == "cpu" || name == "meta" || name == "cuda" ||
      (name.starts_with("cuda:") && name.size() > 5 && name.find_first_not_of("0123456789", 5) == std::string::npos);
  TORCH_CHECK(is_known && name.size() < 9, "unknown place \"", printable(name),
              "\"; known are cpu, disk, cuda, cuda:N and meta");
  return c10::Device(name);
}

/// MemAvailable, as the kernel reports it.
int64_t available_cpu_memory() {
  std::ifstream meminfo("/proc/meminfo");
  for (std::string line; std::getline(meminfo, line);) {
    if (line.starts_with("MemAvailable:")) {
      return std::stoll(line.substr(13)) * 1024;
    }
  }
  return 0;
}

std::string python_class_name(const torch::nn::Module& module) {
  const auto& name = module.name();  // "transformers::LlamaDecoderLayerImpl"
  const auto begin = name.rfind(':') == std::string::npos ? 0 : name.rfind(':') + 1;
  return name.substr(begin, name.size() - begin - (name.ends_with("Impl") ? 4 : 0));
}

/// Measures a model; a tied tensor counts once.
class Measure {
 public:
  explicit Measure(std::optional<c10::ScalarType> dtype) : dtype_(dtype) {}

  ModuleSizes sizes(const std::string& name, const torch::nn::Module& module) {
    ModuleSizes result{.name = name, .class_name = python_class_name(module)};
    for (const auto& parameter : module.named_parameters(/*recurse=*/false)) {
      result.parameters.emplace_back(parameter.key(), bytes(parameter.value(), dtype_));
    }
    for (const auto& buffer : module.buffers(/*recurse=*/false)) {
      result.buffer_bytes += bytes(buffer, dtype_);
    }
    if (const auto* own = dynamic_cast<const Module*>(&module)) {
      for (const auto& [buffer_name, buffer] : own->non_persistent_buffers()) {
        result.buffer_bytes += bytes(buffer, std::nullopt);
      }
    }
    for (const auto& child : module.named_children()) {
      result.children.push_back(sizes(child.key(), *child.value()));
    }
    return result;
  }

 private:
  int64_t bytes(const at::Tensor& tensor, std::optional<c10::ScalarType> dtype) {
    if (!seen_.insert(tensor.unsafeGetTensorImpl()).second) {
      return 0;
    }
    const auto stored = tensor.is_floating_point() ? dtype.value_or(tensor.scalar_type()) : tensor.scalar_type();
    return tensor.numel() * static_cast<int64_t>(c10::elementSize(stored));
  }

  std::optional<c10::ScalarType> dtype_;
  std::unordered_set<const void*> seen_;
};

/// Whether `name` is `module` or is inside it.
bool covers(const std::string& module, const std::string& name) {
  return module.empty() || name == module || name.starts_with(module + ".");
}

}  // namespace

Place::Place(int cuda_index) : device_(c10::Device(c10::kCUDA, static_cast<c10::DeviceIndex>(cuda_index))) {
  TORCH_CHECK(cuda_index >= 0 && cuda_index < 128, "a CUDA device's number is in [0, 128), got ", cuda_index);
}

Place::Place(const std::string& name)
    : device_(name == "disk" ? std::nullopt : std::optional<c10::Device>(device_of_name(name))) {}

c10::Device Place::device() const {
  TORCH_CHECK(device_, "the disk is no device");
  return *device_;
}

std::string Place::to_string() const { return device_ ? device_->str() : "disk"; }

std::pair<int, int> Place::order() const {
  if (!device_) {
    return {2, 0};
  }
  if (is_accelerator()) {
    return {0, static_cast<int>(device_->type()) * 256 + device_->index()};
  }
  return {device_->is_cpu() ? 1 : 3, 0};
}

DeviceMapOption::DeviceMapOption(const std::string& strategy_or_place) {
  if (std::find(kStrategies.begin(), kStrategies.end(), strategy_or_place) != kStrategies.end()) {
    choice_ = strategy_or_place;
  } else {
    choice_ = DeviceMap{{"", Place(strategy_or_place)}};
  }
}

ModuleSizes module_sizes(const torch::nn::Module& model, std::optional<c10::ScalarType> dtype) {
  return Measure(dtype).sizes("", model);
}

std::vector<std::vector<std::string>> find_tied_parameters(const torch::nn::Module& model) {
  std::unordered_map<const void*, std::vector<std::string>> names;
  std::vector<const void*> order;
  for (const auto& parameter : model.named_parameters()) {
    auto& group = names[parameter->unsafeGetTensorImpl()];
    if (group.empty()) {
      order.push_back(parameter->unsafeGetTensorImpl());
    }
    group.push_back(parameter.key());
  }
  std::vector<std::vector<std::string>> groups;
  for (const auto* tensor : order) {
    if (auto& group = names[tensor]; group.size() > 1) {
      std::sort(group.begin(), group.end());
      groups.push_back(group);
    }
  }
  return groups;
}

MaxMemory get_max_memory() {
  MaxMemory memory;
  for (int64_t i = 0; i < cuda_device_count(); ++i) {
    const c10::Device device(c10::kCUDA, static_cast<c10::DeviceIndex>(i));
    // Initialises the device's allocator, which reports its memory.
    const auto warm = at::empty({1}, at::TensorOptions().device(device));
    memory[device] = static_cast<int64_t>(at::getDeviceAllocator(c10::kCUDA)->getMemoryInfo(device.index()).first);
  }
  memory["cpu"] = available_cpu_memory() / 10 * 9;
  return memory;
}

void check_device_map(const torch::nn::Module& model, const DeviceMap& device_map) {
  const auto modules = model.named_modules();
  for (const auto& [name, place] : device_map) {
    TORCH_CHECK(name.empty() || modules.contains(name), "device_map: the model has no module ", printable(name));
  }
  std::string uncovered;
  for (const auto& tensor : model.named_parameters()) {
    const bool is_covered = std::any_of(device_map.begin(), device_map.end(),
                                        [&](const auto& entry) { return covers(entry.first, tensor.key()); });
    uncovered += is_covered ? "" : (uncovered.empty() ? "" : ", ") + tensor.key();
  }
  TORCH_CHECK(uncovered.empty(), "device_map gives no place to ", uncovered);
}

Place place_of(const DeviceMap& device_map, const std::string& name) {
  const DeviceMap::value_type* longest = nullptr;
  for (const auto& entry : device_map) {
    if (covers(entry.first, name) && (longest == nullptr || entry.first.size() > longest->first.size())) {
      longest = &entry;
    }
  }
  TORCH_CHECK(longest != nullptr, "device_map gives no place to ", name);
  return longest->second;
}

}  // namespace transformers
