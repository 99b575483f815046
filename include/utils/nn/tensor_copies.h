#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>
#include <transformers/export.h>

#include <memory>
#include <optional>
#include <unordered_map>

namespace TRANSFORMERS_API transformers {

/// The tensors of a copy by those they were made of, so that what is tied stays tied and what is not does not become
/// so. The counterpart of the `memo` of Python's `copy.deepcopy`.
class TensorCopies {
 public:
  /// Copies go to `device`; unset: each stays where its original is.
  explicit TensorCopies(std::optional<c10::Device> device) : device_(device) {}

  /// A leaf with the values and the `requires_grad` of `tensor`, the same one for the same tensor. Its gradient hooks
  /// that are masks (parametrization.h) come along. Undefined for an undefined tensor.
  at::Tensor of(const at::Tensor& tensor);

  /// `copy` is what stands for `tensor` from now on.
  void set(const at::Tensor& tensor, const at::Tensor& copy) { copies_[tensor.unsafeGetTensorImpl()] = copy; }

  /// A copy of an object that several layers share, by its copy constructor; the same one for the same object.
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
