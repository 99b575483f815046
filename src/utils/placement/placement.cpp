// Mirrors dispatch_model of big_modeling.py and AlignDevicesHook of hooks.py, accelerate 1.15. Deviations: hidden
// states, masks and position embeddings are moved where the device changes, in the models' loops over their blocks; a
// gradient through a layer that is offloaded is an error of its own; a whole model may lie on the disk.
#include "utils/placement/internal/placement.h"

#include <ATen/ATen.h>
#include <transformers/utils/nn/device.h>
#include <transformers/utils/nn/linear.h>
#include <transformers/utils/nn/module.h>

#include <set>

namespace transformers {
namespace {

struct OffloadedParameter {
  at::Tensor parameter;
  OffloadedTensor source;
};

void register_offload(ForwardHooks& layer, const std::string& name, const std::vector<OffloadedParameter>& parameters,
                      c10::Device device) {
  layer.register_forward_pre_hook([=](const at::Tensor& input) {
    TORCH_CHECK(!at::GradMode::is_enabled() || !input.requires_grad(), name,
                " is offloaded by the device map; no gradient can flow through it");
    for (auto [parameter, source] : parameters) {
      assign_tensor(parameter, source.read().to(device));
    }
    return input.to(device);
  });
  layer.register_forward_hook([=](const at::Tensor&, const at::Tensor&) {
    for (auto [parameter, source] : parameters) {
      assign_tensor(parameter, at::empty_like(parameter, at::kMeta));
      source.release();
    }
    return at::Tensor();
  });
}

/// Fills `places`. A tied tensor is placed where the first of its names is placed.
void note_places(const torch::nn::Module& model, Placement& placement) {
  const auto note = [&](const auto& entries) {
    for (const auto& entry : entries) {
      const auto place = place_of(placement.device_map, entry.key());
      const auto [known, is_new] = placement.places.try_emplace(entry.value().unsafeGetTensorImpl(), place);
      if (!is_new && known->second.is_meta()) {
        known->second = place;
      } else if (!is_new && !place.is_meta() && known->second != place) {
        TORCH_WARN("device_map: ", entry.key(), " is tied to a tensor on ", known->second.to_string(),
                   " and lies there");
      }
    }
  };
  note(model.named_parameters());
  note(model.named_buffers());
}

std::set<Place> places_of(const torch::nn::Module& module, const Placement& placement) {
  std::set<Place> places;
  for (const auto& parameter : module.parameters()) {
    if (const auto device = placement.runs_on(parameter)) {
      places.insert(*device);
    }
  }
  return places;
}

/// Throws if the tensors of a block are in several places, because a block computes in one place.
void check_blocks(const Blocks& blocks, const Placement& placement) {
  size_t number = 0;
  for (const auto& block : blocks) {
    const auto places = places_of(*block, placement);
    TORCH_CHECK(places.size() <= 1, "device_map: block ", number, " would run on ", places.begin()->to_string(),
                " and ", places.rbegin()->to_string(), "; a block runs in one place");
    ++number;
  }
}

void check_machine(const DeviceMap& device_map) {
  for (const auto& [name, place] : device_map) {
    if (place.is_accelerator()) {
      require_device(place.device());
    }
  }
}

c10::Device main_device_of(const DeviceMap& device_map) {
  std::set<Place> places;
  for (const auto& [name, place] : device_map) {
    places.insert(place);
  }
  return places.begin()->is_accelerator() ? places.begin()->device() : c10::Device(c10::kCPU);
}

/// Moves the buffers that a model computes when it is built.
void move_computed_buffers(const torch::nn::Module& model, c10::Device device) {
  for (const auto& module : model.modules()) {
    if (const auto* own = module->as<Module>()) {
      for (const auto& [name, buffer] : own->non_persistent_buffers()) {
        auto same_tensor = buffer;
        same_tensor.set_data(buffer.to(device));
      }
    }
  }
}

std::vector<OffloadedParameter> offloaded_parameters(const torch::nn::Module& layer, const Placement& placement) {
  std::vector<OffloadedParameter> parameters;
  for (const auto& parameter : layer.parameters(/*recurse=*/false)) {
    const auto found = placement.offloaded.find(parameter.unsafeGetTensorImpl());
    if (found != placement.offloaded.end()) {
      parameters.push_back({parameter, found->second});
    }
  }
  return parameters;
}

std::set<const torch::nn::Module*> modules_of(const Blocks& blocks) {
  std::set<const torch::nn::Module*> modules;
  for (const auto& block : blocks) {
    for (const auto& module : block->modules()) {
      modules.insert(module.get());
    }
  }
  return modules;
}

std::vector<c10::Device> devices_of(const Blocks& blocks, const Placement& placement) {
  std::vector<c10::Device> devices;
  for (const auto& block : blocks) {
    const auto places = places_of(*block, placement);
    devices.push_back(places.empty() ? placement.main_device : places.begin()->device());
  }
  return devices;
}

}  // namespace

std::optional<c10::Device> Placement::runs_on(const at::Tensor& tensor) const {
  const auto place = place_of(tensor);
  if (place.is_meta()) {
    return std::nullopt;
  }
  return is_offloaded(place) ? main_device : place.device();
}

Placement plan_placement(const torch::nn::Module& model, const Blocks& blocks, DeviceMap device_map) {
  check_device_map(model, device_map);
  Placement placement;
  placement.main_device = main_device_of(device_map);
  placement.device_map = std::move(device_map);
  note_places(model, placement);
  check_blocks(blocks, placement);
  check_machine(placement.device_map);
  return placement;
}

std::vector<ForwardHooks::HookId> align_devices(ForwardHooks& layer, c10::Device device,
                                                std::optional<c10::Device> output) {
  std::vector<ForwardHooks::HookId> ids;
  ids.push_back(layer.register_forward_pre_hook([device](const at::Tensor& input) { return input.to(device); }));
  if (output) {
    ids.push_back(layer.register_forward_hook(
        [to = *output](const at::Tensor&, const at::Tensor& result) { return result.to(to); }));
  }
  return ids;
}

std::vector<c10::Device> place(const torch::nn::Module& model, const Placement& placement, const Blocks& blocks) {
  move_computed_buffers(model, placement.main_device);
  const bool is_spread = places_of(model, placement).size() > 1;
  // As in Python, a model in several places accepts ids on the CPU.
  const bool moves_inputs = is_spread || (!placement.main_device.is_cpu() && !placement.offloaded.empty());
  const auto in_blocks = modules_of(blocks);
  for (const auto& entry : model.named_modules()) {
    auto* layer = dynamic_cast<ForwardHooks*>(entry.value().get());
    const auto parameters = entry.value()->parameters(/*recurse=*/false);
    const auto device = parameters.empty() ? std::nullopt : placement.runs_on(parameters.front());
    if (layer == nullptr || !device) {
      continue;
    }
    if (moves_inputs && !in_blocks.contains(entry.value().get())) {
      const bool is_head = entry.value()->as<LinearImpl>() != nullptr;
      align_devices(*layer, *device, is_head ? std::optional(placement.main_device) : std::nullopt);
    }
    if (const auto tensors = offloaded_parameters(*entry.value(), placement); !tensors.empty()) {
      register_offload(*layer, entry.key(), tensors, *device);
    }
  }
  return is_spread ? devices_of(blocks, placement) : std::vector<c10::Device>{};
}

void move_layer(torch::nn::Module& layer, c10::Device device) {
  if (!device.is_meta()) {
    layer.to(device);
    return;
  }
  for (auto& parameter : layer.parameters()) {
    assign_tensor(parameter, parameter.to(device));
  }
}

StateDict whole_state_dict(const torch::nn::Module& model, const Placement* placement) {
  auto state = state_dict(model);
  std::unordered_map<const void*, at::Tensor> read;  // shared by tied names
  for (const auto& parameter : model.named_parameters()) {
    if (!parameter->is_meta()) {
      continue;
    }
    const auto* tensor = parameter->unsafeGetTensorImpl();
    TORCH_CHECK(placement != nullptr && placement->offloaded.contains(tensor), parameter.key(),
                " has no values here; quantised layers are dequantised before, a model that is split over ranks is "
                "saved by its group");
    const auto [known, is_new] = read.try_emplace(tensor);
    if (is_new) {
      known->second = placement->offloaded.at(tensor).read();
    }
    state[parameter.key()] = known->second;
  }
  return state;
}

}  // namespace transformers
