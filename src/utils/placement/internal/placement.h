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

/// Weights that are offloaded until their layer runs.
struct OffloadedTensor {
  std::function<at::Tensor()> read{};  // its values, on the CPU
  std::function<void()> release{};     // called when the caller no longer needs them
};

/// The place of each tensor of a model, and the tensors that are offloaded. Keys are TensorImpls, so that tied tensors
/// count as one.
struct Placement {
  DeviceMap device_map{};
  c10::Device main_device = c10::kCPU;  // where offloaded layers run, ids are passed in and scores are returned
  std::unordered_map<const void*, Place> places{};
  std::unordered_map<const void*, OffloadedTensor> offloaded{};

  Place place_of(const at::Tensor& tensor) const { return places.at(tensor.unsafeGetTensorImpl()); }
  /// The device on which the tensor is used; nullopt for a tensor without values.
  std::optional<c10::Device> runs_on(const at::Tensor& tensor) const;
  /// Whether a tensor in this place is used on another device than where it is stored.
  bool is_offloaded(const Place& place) const { return place.is_disk() || (place.is_cpu() && !main_device.is_cpu()); }
};

/// The modules of a model that take and return hidden states; each of them runs in one place.
using Blocks = std::vector<std::shared_ptr<torch::nn::Module>>;

/// Computes the places of the tensors of a model on the meta device from a map. Throws when the map does not fit the
/// model or the machine, or splits a block.
Placement plan_placement(const torch::nn::Module& model, const Blocks& blocks, DeviceMap device_map);

/// Makes a filled model run over its places with hooks on its layers. Returns the device of each block; empty if all
/// run on one device.
std::vector<c10::Device> place(const torch::nn::Module& model, const Placement& placement, const Blocks& blocks);

/// Moves the input of a layer to `device`, and its result to `output`, if one is given.
std::vector<ForwardHooks::HookId> align_devices(ForwardHooks& layer, c10::Device device,
                                                std::optional<c10::Device> output = std::nullopt);

/// Moves a layer's tensors. On the meta device their values are lost.
void move_layer(torch::nn::Module& layer, c10::Device device);

/// The state dict, including the values of offloaded tensors. Throws when parts have no values.
StateDict whole_state_dict(const torch::nn::Module& model, const Placement* placement);

}  // namespace transformers
