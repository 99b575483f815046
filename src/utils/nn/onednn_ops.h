#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>

#include <optional>
#include <string_view>

namespace transformers {

/// Finds an operator by its name; nullopt if LibTorch was built without oneDNN.
template <typename Signature>
std::optional<c10::TypedOperatorHandle<Signature>> operator_named(const char* name) {
  const auto found = c10::Dispatcher::singleton().findSchema({name, ""});
  return found ? std::make_optional(found->typed<Signature>()) : std::nullopt;
}

using LinearPointwise = at::Tensor(const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&,
                                   std::string_view, c10::List<std::optional<at::Scalar>>,
                                   std::optional<std::string_view>);

/// `mkldnn::_linear_pointwise`, which takes a plain or a packed weight.
inline const auto& linear_pointwise() {
  static const auto handle = operator_named<LinearPointwise>("mkldnn::_linear_pointwise");
  return handle;
}

/// The matmul without a further operation. linear_pointwise() must not be empty.
inline at::Tensor onednn_linear(const at::Tensor& input, const at::Tensor& weight,
                                const std::optional<at::Tensor>& bias = std::nullopt) {
  return linear_pointwise()->call(input, weight, bias, "none", c10::List<std::optional<at::Scalar>>(), std::nullopt);
}

}  // namespace transformers
