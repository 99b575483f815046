// The activation functions of HF's `ACT2FN`, after activations.py, transformers 5.23.0: names, formulas and the module.
#include <ATen/ATen.h>
#include <transformers/utils/modeling/activations.h>
#include <transformers/utils/nn/construction.h>

#include <array>
#include <cmath>
#include <numbers>
#include <utility>

#include "utils/modeling/internal/functional.h"
#include "utils/text/named_values.h"

namespace transformers {
namespace {

using NamedActivation = NamedValue<Activation>;
constexpr std::array kActivations{
    NamedActivation{"gelu", Activation::kGelu},
    NamedActivation{"gelu_10", Activation::kGelu10},
    NamedActivation{"gelu_accurate", Activation::kGeluAccurate},
    NamedActivation{"gelu_fast", Activation::kGeluFast},
    NamedActivation{"gelu_new", Activation::kGeluNew},
    NamedActivation{"gelu_python", Activation::kGeluPython},
    NamedActivation{"gelu_python_tanh", Activation::kGeluPythonTanh},
    NamedActivation{"gelu_pytorch_tanh", Activation::kGeluPytorchTanh},
    NamedActivation{"hardswish", Activation::kHardswish},
    NamedActivation{"laplace", Activation::kLaplace},
    NamedActivation{"leaky_relu", Activation::kLeakyRelu},
    NamedActivation{"linear", Activation::kLinear},
    NamedActivation{"mish", Activation::kMish},
    NamedActivation{"prelu", Activation::kPrelu},
    NamedActivation{"quick_gelu", Activation::kQuickGelu},
    NamedActivation{"relu", Activation::kRelu},
    NamedActivation{"relu2", Activation::kRelu2},
    NamedActivation{"relu6", Activation::kRelu6},
    NamedActivation{"sigmoid", Activation::kSigmoid},
    NamedActivation{"silu", Activation::kSilu},
    NamedActivation{"sqrtsoftplus", Activation::kSqrtSoftplus},
    NamedActivation{"swish", Activation::kSilu},
    NamedActivation{"tanh", Activation::kTanh},
    NamedActivation{"xielu", Activation::kXielu},
};

constexpr double kXieluAlpha = 0.8;
constexpr double kXieluBeta = 0.5;
constexpr double kXieluEps = -1e-6;

// The factors have names to fix the order of evaluation; see composed.cpp.
at::Tensor gelu_fast(const at::Tensor& x) {
  const auto half = 0.5 * x;
  const auto scaled = x * 0.7978845608;
  return half * (1.0 + at::tanh(scaled * (1.0 + 0.044715 * x * x)));
}

at::Tensor laplace(const at::Tensor& x) {
  constexpr double mu = 0.707107;
  constexpr double sigma = 0.282095;
  return 0.5 * (1.0 + at::erf((x - mu).div(sigma * std::numbers::sqrt2)));
}

}  // namespace

Activation activation_from_name(std::string_view name) {
  return value_of_name(kActivations, "activation function", name);
}

std::string activation_name(Activation activation) { return name_of_value(kActivations, activation); }

std::vector<std::string> activation_names() { return names_of(kActivations); }

ActivationFunctionImpl::ActivationFunctionImpl(Activation activation) : activation_(activation) {
  const auto& construction = construction_options();
  const auto empty = [&](at::IntArrayRef sizes) {
    return at::empty(sizes, at::TensorOptions().dtype(construction.dtype).device(construction.device));
  };
  if (activation_ == Activation::kPrelu) {
    weight_ = register_parameter("weight", empty({1}));
  } else if (activation_ == Activation::kXielu) {
    alpha_p_ = register_parameter("alpha_p", empty({1}));
    alpha_n_ = register_parameter("alpha_n", empty({1}));
    beta_ = register_buffer("beta", empty({}));
    eps_ = register_buffer("eps", empty({}));
  }
  if (construction.initialize && construction.device != c10::kMeta) {
    reset_parameters();
  }
}

void ActivationFunctionImpl::reset_parameters() {
  const at::NoGradGuard no_grad;
  if (activation_ == Activation::kPrelu) {
    weight_.fill_(0.25);
  } else if (activation_ == Activation::kXielu) {
    // HF computes the initial values in bf16 for models of any dtype.
    const auto rounded = [](double value) { return at::scalar_tensor(value, at::kBFloat16); };
    alpha_p_.copy_(rounded(kXieluAlpha).expm1().log());
    alpha_n_.copy_(rounded(kXieluAlpha - kXieluBeta).expm1().log());
    beta_.copy_(rounded(kXieluBeta));
    eps_.copy_(rounded(kXieluEps));
  }
}

torch::Tensor ActivationFunctionImpl::xielu(const torch::Tensor& x) const {
  const auto alpha_p = at::softplus(alpha_p_);
  const auto alpha_n = beta_ + at::softplus(alpha_n_);
  const auto square = alpha_p * x * x;
  const auto positive = square + beta_ * x;
  const auto decay = (at::expm1(at::min(x, eps_)) - x) * alpha_n;
  return at::where(x > 0, positive, decay + beta_ * x);
}

torch::Tensor ActivationFunctionImpl::forward(const torch::Tensor& x) {
  switch (activation_) {
    case Activation::kGelu:
      return at::gelu(x);
    case Activation::kGelu10:
      return at::clamp(at::gelu(x), -10, 10);
    case Activation::kGeluAccurate:
    case Activation::kGeluNew:
      return functional::gelu_new(x, is_training());
    case Activation::kGeluFast:
      return gelu_fast(x);
    case Activation::kGeluPython:
      return x * 0.5 * (1.0 + at::erf(x / std::numbers::sqrt2));
    case Activation::kGeluPythonTanh:
      return functional::gelu_new(x, /*training=*/false);  // the same formula
    case Activation::kGeluPytorchTanh:
      return at::gelu(x, "tanh");
    case Activation::kHardswish:
      return at::hardswish(x);
    case Activation::kLaplace:
      return laplace(x);
    case Activation::kLeakyRelu:
      return at::leaky_relu(x);
    case Activation::kLinear:
      return x;
    case Activation::kMish:
      return at::mish(x);
    case Activation::kPrelu:
      return at::prelu(x, weight_);
    case Activation::kQuickGelu:
      return x * at::sigmoid(1.702 * x);
    case Activation::kRelu:
      return at::relu(x);
    case Activation::kRelu2:
      return at::square(at::relu(x));
    case Activation::kRelu6:
      return at::relu6(x);
    case Activation::kSigmoid:
      return at::sigmoid(x);
    case Activation::kSilu:
      return at::silu(x);
    case Activation::kSqrtSoftplus:
      return at::softplus(x).sqrt();
    case Activation::kTanh:
      return at::tanh(x);
    case Activation::kXielu:
      return xielu(x);
  }
  TORCH_INTERNAL_ASSERT(false, "activation without a formula");
}

torch::Tensor activate_and_mul(ActivationFunction& act_fn, torch::Tensor gate, const torch::Tensor& up) {
  // A hook may keep the gate, but silu_and_mul may overwrite it.
  if (act_fn->activation() == Activation::kSilu && !act_fn->has_forward_hooks()) {
    return functional::silu_and_mul(std::move(gate), up, act_fn->is_training());
  }
  return act_fn(gate) * up;
}

}  // namespace transformers
