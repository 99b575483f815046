#pragma once

#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>
#include <transformers/utils/nn/forward_hooks.h>
#include <transformers/utils/nn/state_dict.h>
#include <transformers/utils/placement/device_map.h>

#include <functional>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

namespace transformers {

/// Weights that are somewhere else until their layer runs.
struct OffloadedTensor {
  std::function<at::Tensor()> read{};  // its values, on the CPU
  std::function<void()> release{};     // the caller is done with them
};

/// Where a model's parts lie, and what waits elsewhere. Tensors go by their TensorImpl, so that tied ones are one.
struct Placement {
  DeviceMap device_map{};
  c10::Device main_device = c10::kCPU;  // where offloaded layers run, ids come in and scores come out
  std::unordered_map<const void*, Place> places{};
  std::unordered_map<const void*, OffloadedTensor> offloaded{};

  Place place_of(const at::Tensor& tensor) const { return places.at(tensor.unsafeGetTensorImpl()); }
  /// None for what is not held at all.
  std::optional<c10::Device> runs_on(const at::Tensor& tensor) const;
  /// Whether a tensor waits elsewhere than where it runs.
  bool is_offloaded(const Place& place) const { return place.is_disk() || (place.is_cpu() && !main_device.is_cpu()); }
};

/// The modules of a model that take and return hidden states; each of them runs in one place.
using Blocks = std::vector<std::shared_ptr<torch::nn::Module>>;

/// Where the tensors of a model on the meta device will lie by the map. Throws when the map does not fit the model or
/// the machine, or divides a block.
Placement plan_placement(const torch::nn::Module& model, const Blocks& blocks, DeviceMap device_map);

/// Makes a filled model run over its places, by hooks on its layers. Returns where each block runs; empty where all run
/// in one place.
std::vector<c10::Device> place(const torch::nn::Module& model, const Placement& placement, const Blocks& blocks);

/// Moves what a layer is called with to `device`, and what it returns to `output`, where one is given.
std::vector<ForwardHooks::HookId> align_devices(ForwardHooks& layer, c10::Device device,
                                                std::optional<c10::Device> output = std::nullopt);

/// Moves a layer's tensors; also to the meta device, where their values are lost.
void move_layer(torch::nn::Module& layer, c10::Device device);

/// The state dict with the values of what is offloaded. Throws when there are parts without values.
StateDict whole_state_dict(const torch::nn::Module& model, const Placement* placement);

}  // namespace transformers
