#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>
#include <transformers/export.h>

#include <memory>
#include <optional>
#include <unordered_map>

namespace TRANSFORMERS_API transformers {

/// Maps the tensors of an original to those of its copy, so that tied tensors stay tied and others do not become tied.
/// The counterpart of the `memo` of Python's `copy.deepcopy`.
class TensorCopies {
 public:
  /// Copies go to `device`; unset: each stays where its original is.
  explicit TensorCopies(std::optional<c10::Device> device) : device_(device) {}

  /// Returns a leaf with the values and the `requires_grad` of `tensor`, always the same one for the same tensor.
  /// Gradient hooks that are masks (parametrization.h) are copied too. Undefined for an undefined tensor.
  at::Tensor of(const at::Tensor& tensor);

  /// Registers `copy` as the copy of `tensor`.
  void set(const at::Tensor& tensor, const at::Tensor& copy) { copies_[tensor.unsafeGetTensorImpl()] = copy; }

  /// Copies an object that several layers share with its copy constructor, once per object.
  template <typename Object>
  std::shared_ptr<Object> of(const std::shared_ptr<Object>& object) {
    auto& copy = objects_[object.get()];
    if (copy == nullptr) {
      copy = std::make_shared<Object>(*object);
    }
    return std::static_pointer_cast<Object>(copy);
  }

  const std::optional<c10::Device>& device() const { return device_; }

 private:
  std::optional<c10::Device> device_;
  std::unordered_map<const void*, at::Tensor> copies_;
  std::unordered_map<const void*, std::shared_ptr<void>> objects_;
};

}  // namespace transformers
