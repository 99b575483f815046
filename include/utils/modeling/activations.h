#pragma once

#include <transformers/export.h>
#include <transformers/utils/nn/module.h>

#include <string>
#include <string_view>
#include <vector>

namespace TRANSFORMERS_API transformers {

/// The activation functions of HF's `ACT2FN`. Mirrors activations.py, transformers 5.23.0.
enum class Activation {
  kGelu,
  kGelu10,
  kGeluAccurate,
  kGeluFast,
  kGeluNew,
  kGeluPython,
  kGeluPythonTanh,
  kGeluPytorchTanh,
  kHardswish,
  kLaplace,
  kLeakyRelu,
  kLinear,
  kMish,
  kPrelu,
  kQuickGelu,
  kRelu,
  kRelu2,
  kRelu6,
  kSigmoid,
  kSilu,
  kSqrtSoftplus,
  kTanh,
  kXielu,
};

/// Converts a name from a config; `swish` is read as `silu`. Throws on any other name, with the list of names.
Activation activation_from_name(std::string_view name);
std::string activation_name(Activation activation);
std::vector<std::string> activation_names();

/// An activation function as a module, as HF keeps it in its MLPs. Only `prelu` (`weight`) and `xielu` (`alpha_p`,
/// `alpha_n`, `beta`, `eps`) hold tensors; the others register nothing.
class ActivationFunctionImpl : public Cloneable<ActivationFunctionImpl>, public OwnInitialValues {
 public:
  explicit ActivationFunctionImpl(Activation activation);

  /// Applies the function to each element; keeps shape and dtype. Where HF composes the function of several operations,
  /// so does this one, so that half precision rounds alike.
  torch::Tensor forward(const torch::Tensor& x);

  Activation activation() const { return activation_; }

  auto members() { return std::tie(weight_, alpha_p_, alpha_n_, beta_, eps_); }

  /// Sets the learned tensors to HF's initial values.
  void reset_parameters();
  void init_parameter(const std::string& /*name*/, torch::Tensor /*tensor*/) override { reset_parameters(); }

 private:
  torch::Tensor xielu(const torch::Tensor& x) const;

  Activation activation_;
  torch::Tensor weight_;                          // prelu: [1]
  torch::Tensor alpha_p_, alpha_n_, beta_, eps_;  // xielu: [1], [1], [], []
};
TRANSFORMERS_MODULE(ActivationFunction);

/// act_fn(gate) · up, both of one shape: the middle of a gated MLP. While no gradients are recorded, the result reuses
/// the memory of a gate that nobody else holds.
torch::Tensor activate_and_mul(ActivationFunction& act_fn, torch::Tensor gate, const torch::Tensor& up);

}  // namespace transformers
