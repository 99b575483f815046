#include "utils/nn/dnn_linear.h"

#include <ATen/autocast_mode.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/mm.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include "utils/kernels/level.h"
#include "utils/nn/internal/matrix_rows.h"
#include "utils/nn/onednn_ops.h"

namespace transformers {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

bool is_intel() {
#if defined(__x86_64__) && defined(__GNUC__)
  return __builtin_cpu_is("intel");
#else
  return true;
#endif
}

struct DnnLinear : torch::autograd::Function<DnnLinear> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& input, const at::Tensor& weight,
                            const std::optional<at::Tensor>& bias) {
    context->save_for_backward({input, weight});
    context->saved_data["has_bias"] = bias.has_value();
    return onednn_linear(input, weight, bias);
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    const auto saved = context->get_saved_variables();
    const auto &input = saved[0], &weight = saved[1], &grad = grads[0];
    const auto grad_rows = rows_of(grad);
    variable_list gradients(3);
    if (context->needs_input_grad(0)) {
      // A gradient of a gradient needs an operator that has a derivative of its own.
      const auto product =
          at::GradMode::is_enabled() ? at::mm(grad_rows, weight) : onednn_linear(grad_rows, weight.t());
      gradients[0] = product.view_as(input);
    }
    if (context->needs_input_grad(1)) {
      gradients[1] = at::mm(grad_rows.t(), rows_of(input));
    }
    if (context->saved_data["has_bias"].toBool() && context->needs_input_grad(2)) {
      gradients[2] = grad_rows.sum(0);
    }
    return gradients;
  }
};

}  // namespace

bool dnn_linear_is_faster(const at::Tensor& input, const at::Tensor& weight) {
  constexpr int64_t kFewestRows = 64;
  constexpr int64_t kSmallestWeight = 1 << 15;
  static const bool is_worth_it = !is_intel() && linear_pointwise();
  return is_worth_it && kernels::enabled() && !at::autocast::is_autocast_enabled(at::kCPU) && input.is_cpu() &&
         weight.is_cpu() && input.scalar_type() == at::kFloat && weight.scalar_type() == at::kFloat &&
         weight.numel() >= kSmallestWeight && input.numel() >= kFewestRows * weight.size(1);
}

at::Tensor dnn_linear(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias) {
  return DnnLinear::apply(input, weight, bias.defined() ? std::make_optional(bias) : std::nullopt);
}

}  // namespace transformers
