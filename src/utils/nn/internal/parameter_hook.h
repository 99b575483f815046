#pragma once

#include <transformers/utils/nn/tensor_copies.h>

#include <memory>

namespace transformers {

/// A gradient hook with a state. It is attached to a parameter, whichever module uses it, and copied with the
/// parameter.
class ParameterHook {
 public:
  virtual ~ParameterHook() = default;
  /// Returns the new gradient.
  virtual at::TensorBase changed(const at::TensorBase& gradient) const = 0;
  /// Returns the hook for a copy of the parameter.
  virtual std::shared_ptr<ParameterHook> copied(TensorCopies& copies) const = 0;
};

/// The hook of a parameter; null if it has none.
std::shared_ptr<ParameterHook> parameter_hook(const at::Tensor& parameter);
/// Attaches a hook to a parameter that has none; the parameter may be frozen.
void add_parameter_hook(const at::Tensor& parameter, std::shared_ptr<ParameterHook> hook);
/// Attaches the hook of one tensor, if it has one, to another tensor too.
void share_parameter_hook(const at::Tensor& from, const at::Tensor& to);
void remove_parameter_hook(const at::Tensor& parameter);

}  // namespace transformers
