#include <transformers/utils/nn/module.h>

#include <algorithm>
#include <unordered_set>

#include "utils/nn/copy_buffers.h"

namespace transformers {
namespace {

torch::Tensor moved(const torch::Tensor& tensor, torch::Device device, torch::Dtype dtype, bool non_blocking) {
  return tensor.to(device, tensor.is_floating_point() ? dtype : tensor.scalar_type(), non_blocking);
}
torch::Tensor moved(const torch::Tensor& tensor, torch::Dtype dtype, bool non_blocking) {
  return moved(tensor, tensor.device(), dtype, non_blocking);
}
torch::Tensor moved(const torch::Tensor& tensor, torch::Device device, bool non_blocking) {
  return moved(tensor, device, tensor.scalar_type(), non_blocking);
}

/// The device that a move goes to; none if the call only casts.
std::optional<torch::Device> target_device(torch::Device device, torch::Dtype, bool) { return device; }
std::optional<torch::Device> target_device(torch::Device device, bool) { return device; }
std::optional<torch::Device> target_device(torch::Dtype, bool) { return std::nullopt; }

}  // namespace

template <typename... Target>
void Module::move_to(Target... target) {
  for (const auto& child : children()) {
    child->to(target...);
  }
  for (auto& parameter : named_parameters(/*recurse=*/false)) {
    // Otherwise gradients would be added to one of the old type without an error.
    const auto gradient = parameter->grad();
    parameter->mutable_grad().reset();
    parameter->set_data(moved(*parameter, target...).detach());
    if (gradient.defined()) {
      parameter->mutable_grad() = moved(gradient, target...);
    }
  }
  for (auto& buffer : named_buffers(/*recurse=*/false)) {
    buffer->set_data(moved(*buffer, target...));
  }
  if (const auto device = target_device(target...)) {
    for (auto& [name, buffer] : non_persistent_buffers_) {
      buffer.set_data(buffer.to(*device));
    }
  }
}

void Module::to(torch::Device device, torch::Dtype dtype, bool non_blocking) { move_to(device, dtype, non_blocking); }
void Module::to(torch::Dtype dtype, bool non_blocking) { move_to(dtype, non_blocking); }
void Module::to(torch::Device device, bool non_blocking) { move_to(device, non_blocking); }

std::vector<torch::Tensor> Module::parameters(bool recurse) const {
  std::vector<torch::Tensor> once;
  std::unordered_set<const void*> seen;
  for (auto& parameter : torch::nn::Module::parameters(recurse)) {
    if (seen.insert(parameter.unsafeGetTensorImpl()).second) {
      once.push_back(std::move(parameter));
    }
  }
  return once;
}

void Module::own_tensors(TensorCopies& copies) {
  for (auto& entry : parameters_) {
    entry.value() = copies.of(entry.value());
  }
  copy_buffers(*this, *this, copies);
  for (auto& [name, buffer] : non_persistent_buffers_) {
    buffer = copies.of(buffer);
  }
}

std::shared_ptr<torch::nn::Module> Module::own_child(const std::optional<torch::Device>& device,
                                                     const std::shared_ptr<torch::nn::Module>& child) {
  const auto children = named_children();
  const auto place =
      std::find_if(children.begin(), children.end(), [&](const auto& entry) { return entry.value() == child; });
  TORCH_INTERNAL_ASSERT(place != children.end(), "clone: a member is no child of its module");
  return replace_module(place->key(), child->clone(device));
}

torch::Tensor Module::register_non_persistent_buffer(std::string name, torch::Tensor tensor) {
  non_persistent_buffers_.emplace_back(std::move(name), tensor);
  return tensor;
}

}  // namespace transformers
