#pragma once

#include <transformers/utils/io/checkpoint.h>
#include <transformers/utils/modeling/modeling_utils.h>
#include <transformers/utils/nn/forward_hooks.h>

#include <functional>
#include <memory>
#include <unordered_map>

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

/// The places that the options ask for, of a model on the meta device whose floating tensors will be `dtype`. Throws
/// when the map does not fit the model or the machine, or parts a block.
std::shared_ptr<Placement> plan_placement(PreTrainedModel& model, const LoadOptions& options, c10::ScalarType dtype);
/// Throws when a tensor would lie on the disk in a file that is not safetensors.
void check_disk_files(const Placement& placement, const std::string& folder, const at::Tensor& tensor,
                      const CheckpointTensor& stored);

/// Makes a filled model run over its places.
void place(PreTrainedModel& model, std::shared_ptr<Placement> placement);

/// Moves what a layer is called with to `device`, and what it returns to `output`, where one is given.
std::vector<ForwardHooks::HookId> align_devices(ForwardHooks& layer, c10::Device device,
                                                std::optional<c10::Device> output = std::nullopt);

/// Moves a layer's tensors; also to the meta device, where their values are lost.
void move_layer(torch::nn::Module& layer, c10::Device device);

/// The state dict with the values of what is offloaded. Throws when there are parts without values.
StateDict whole_state_dict(const PreTrainedModel& model, const Placement* placement);

}  // namespace transformers
