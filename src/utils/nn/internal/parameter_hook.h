#pragma once

#include <transformers/utils/nn/tensor_copies.h>

#include <memory>

namespace transformers {

/// A gradient hook with a state that lies on a parameter, whatever module uses it, and that a copy of the parameter
/// gets a copy of.
class ParameterHook {
 public:
  virtual ~ParameterHook() = default;
  /// What the gradient becomes.
  virtual at::TensorBase changed(const at::TensorBase& gradient) const = 0;
  /// The hook of a copy of the parameter.
  virtual std::shared_ptr<ParameterHook> copied(TensorCopies& copies) const = 0;
};

/// The hook that lies on a parameter; null: none does.
std::shared_ptr<ParameterHook> parameter_hook(const at::Tensor& parameter);
/// Puts a hook on a parameter that has none, frozen or not.
void add_parameter_hook(const at::Tensor& parameter, std::shared_ptr<ParameterHook> hook);
/// Puts the hook of one tensor, if it has one, on another too.
void share_parameter_hook(const at::Tensor& from, const at::Tensor& to);
void remove_parameter_hook(const at::Tensor& parameter);

}  // namespace transformers
