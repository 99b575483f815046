// Mirrors dispatch_model of big_modeling.py and AlignDevicesHook of hooks.py, accelerate 1.15. Deviations: hidden
// states, masks and position embeddings hop once a device, in the models' loops over their blocks; a gradient through a
// layer that is offloaded is an error of its own; a whole model may lie on the disk.
#include "utils/placement/placement.h"

#include <ATen/ATen.h>
#include <transformers/utils/nn/device.h>

#include <set>

#include "utils/text/printable.h"

namespace transformers {
namespace {

/// A parameter of a layer that waits elsewhere.
struct Visitor {
  at::Tensor parameter;
  OffloadedTensor source;
};

void register_offload(ForwardHooks& layer, const std::string& name, const std::vector<Visitor>& visitors,
                      c10::Device device) {
  layer.register_forward_pre_hook([=](const at::Tensor& input) {
    TORCH_CHECK(!at::GradMode::is_enabled() || !input.requires_grad(), name,
                " is offloaded by the device map; no gradient can flow through it");
    for (auto [parameter, source] : visitors) {
      assign_tensor(parameter, source.read().to(device));
    }
    return input.to(device);
  });
  layer.register_forward_hook([=](const at::Tensor&, const at::Tensor&) {
    for (auto [parameter, source] : visitors) {
      assign_tensor(parameter, at::empty_like(parameter, at::kMeta));
      source.release();
    }
    return at::Tensor();
  });
}

/// Fills `places`. A tied tensor lies where the first of its names says that it is held.
void note_places(PreTrainedModel& model, Placement& placement) {
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

/// Throws where a block would run in several places: what it computes meets what came in.
void check_blocks(PreTrainedModel& model, const Placement& placement) {
  size_t number = 0;
  for (const auto& layer : model.base_model().structure().layers) {
    const auto places = places_of(*layer.block, placement);
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

DeviceMap map_asked_for(PreTrainedModel& model, const LoadOptions& options, c10::ScalarType dtype) {
  const auto& wanted = options.device_map;
  if (const auto* map = wanted.map()) {
    return *map;
  }
  if (const auto* map_of_model = wanted.map_of_model()) {
    return (*map_of_model)(model);
  }
  if (const auto* strategy = wanted.strategy()) {
    return infer_auto_device_map(module_sizes(model, dtype), *strategy, options.max_memory, model.no_split_modules(),
                                 find_tied_parameters(model));
  }
  return {{"", options.device}};
}

c10::Device main_device_of(const DeviceMap& device_map) {
  std::set<Place> places;
  for (const auto& [name, place] : device_map) {
    places.insert(place);
  }
  return places.begin()->is_accelerator() ? places.begin()->device() : c10::Device(c10::kCPU);
}

/// Buffers that a model computes itself are with it when it is built.
void move_computed_buffers(const PreTrainedModel& model, c10::Device device) {
  for (const auto& module : model.modules()) {
    if (const auto* own = module->as<Module>()) {
      for (const auto& [name, buffer] : own->non_persistent_buffers()) {
        auto same_tensor = buffer;
        same_tensor.set_data(buffer.to(device));
      }
    }
  }
}

std::vector<Visitor> visitors_of(const torch::nn::Module& module, const Placement& placement) {
  std::vector<Visitor> visitors;
  for (const auto& parameter : module.parameters(/*recurse=*/false)) {
    const auto found = placement.offloaded.find(parameter.unsafeGetTensorImpl());
    if (found != placement.offloaded.end()) {
      visitors.push_back({parameter, found->second});
    }
  }
  return visitors;
}

}  // namespace

std::optional<c10::Device> Placement::runs_on(const at::Tensor& tensor) const {
  const auto place = place_of(tensor);
  if (place.is_meta()) {
    return std::nullopt;
  }
  return is_offloaded(place) ? main_device : place.device();
}

std::shared_ptr<Placement> plan_placement(PreTrainedModel& model, const LoadOptions& options, c10::ScalarType dtype) {
  auto placement = std::make_shared<Placement>();
  placement->device_map = map_asked_for(model, options, dtype);
  check_device_map(model, placement->device_map);
  placement->main_device = main_device_of(placement->device_map);
  note_places(model, *placement);
  check_blocks(model, *placement);
  check_machine(placement->device_map);
  return placement;
}

void check_disk_files(const Placement& placement, const std::string& folder, const at::Tensor& tensor,
                      const CheckpointTensor& stored) {
  TORCH_CHECK(!placement.place_of(tensor).is_disk() || stored.file.ends_with(".safetensors"), printable(folder), ": ",
              printable(stored.name), " is to stay on the disk, which takes a safetensors file, not ",
              printable(stored.file));
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

void place(PreTrainedModel& model, std::shared_ptr<Placement> placement) {
  move_computed_buffers(model, placement->main_device);
  const bool is_spread = places_of(model, *placement).size() > 1;
  // As in Python, ids on the CPU will do for a model in several places.
  const bool moves_inputs = is_spread || (!placement->main_device.is_cpu() && !placement->offloaded.empty());
  std::set<const torch::nn::Module*> in_blocks;
  std::vector<c10::Device> block_devices;
  for (const auto& layer : model.base_model().structure().layers) {
    for (const auto& module : layer.block->modules()) {
      in_blocks.insert(module.get());
    }
    const auto places = places_of(*layer.block, *placement);
    block_devices.push_back(places.empty() ? placement->main_device : places.begin()->device());
  }
  for (const auto& entry : model.named_modules()) {
    auto* layer = dynamic_cast<ForwardHooks*>(entry.value().get());
    const auto parameters = entry.value()->parameters(/*recurse=*/false);
    const auto device = parameters.empty() ? std::nullopt : placement->runs_on(parameters.front());
    if (layer == nullptr || !device) {
      continue;
    }
    if (moves_inputs && !in_blocks.contains(entry.value().get())) {
      const bool is_head = entry.value()->as<LinearImpl>() != nullptr;
      align_devices(*layer, *device, is_head ? std::optional(placement->main_device) : std::nullopt);
    }
    if (const auto visitors = visitors_of(*entry.value(), *placement); !visitors.empty()) {
      register_offload(*layer, entry.key(), visitors, *device);
    }
  }
  if (is_spread) {
    model.base_model().block_devices_ = std::move(block_devices);
  }
  model.placement_ = std::move(placement);
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

StateDict whole_state_dict(const PreTrainedModel& model, const Placement* placement) {
  auto state = state_dict(model);
  std::unordered_map<const void*, at::Tensor> read;  // tied names share it
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

const DeviceMap& PreTrainedModel::hf_device_map() const {
  static const DeviceMap kOnePlace;
  return placement_ ? placement_->device_map : kOnePlace;
}

std::vector<std::string> PreTrainedModel::no_split_modules() {
  std::set<std::string> names;
  for (const auto& layer : base_model().structure().layers) {
    names.insert(module_sizes(*layer.block).class_name);
  }
  return {names.begin(), names.end()};
}

void PreTrainedModel::run_blocks(const BlockRange& blocks) {
  const auto count = config().get_num_hidden_layers();
  TORCH_CHECK(blocks.begin >= 0 && blocks.begin < blocks.end && blocks.end <= count, "run_blocks: blocks [",
              blocks.begin, ", ", blocks.end, ") are not among the model's ", count);
  base_model().blocks_ = blocks;
}

BlockRange PreTrainedModel::blocks_to_run(size_t count) const {
  return blocks_.value_or(BlockRange{0, static_cast<int64_t>(count)});
}

std::optional<c10::Device> PreTrainedModel::block_device(size_t i) const {
  return block_devices_.empty() ? std::nullopt : std::optional(block_devices_[i]);
}

void PreTrainedModel::check_movable() const {
  TORCH_CHECK(!placement_ && block_devices_.empty(), architecture(),
              " lies in several places by its device map and can be neither moved nor cast");
}

void PreTrainedModel::check_unplaced() {
  TORCH_CHECK(!placement_ && base_model().block_devices_.empty(), architecture(),
              " was placed by a device map and can be neither pruned nor resized; load it without one");
}

void PreTrainedModel::to(torch::Device device, torch::Dtype dtype, bool non_blocking) {
  check_movable();
  Module::to(device, dtype, non_blocking);
}

void PreTrainedModel::to(torch::Dtype dtype, bool non_blocking) {
  check_movable();
  Module::to(dtype, non_blocking);
}

void PreTrainedModel::to(torch::Device device, bool non_blocking) {
  check_movable();
  Module::to(device, non_blocking);
}

}  // namespace transformers
