// The choice between kernels and LibTorch's operators, and the autograd function over the kernels.
#include "utils/nn/internal/matmul.h"

#include <ATen/autocast_mode.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mm.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "utils/nn/dnn_linear.h"
#include "utils/nn/internal/matrix_rows.h"
#include "utils/nn/kernel_matmul.h"
#include "utils/nn/onednn_ops.h"

namespace transformers {
namespace {

using kernels::Level;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

bool dnn_supports(const char* question) {
  const auto handle = operator_named<bool()>(question);
  return handle && handle->call();
}

/// The most rows that are read straight from the weight's memory.
int64_t most_few_rows(const MatmulMachine& machine, c10::ScalarType dtype) {
  if (dtype == at::kFloat) {
    return machine.level == Level::kBaseline ? 0 : 16;
  }
  // From 9 rows on oneDNN's bfloat16 instructions are faster, from 25 on packed panels.
  return dtype == at::kBFloat16 && machine.level >= Level::kAvx512 && machine.dnn_has_bfloat16 ? 8 : 24;
}

bool packs_many_rows(const MatmulMachine& machine, c10::ScalarType dtype) {
  switch (dtype) {
    case at::kBFloat16:
      return machine.level < Level::kAvx512 || !machine.dnn_has_bfloat16;
    case at::kHalf:
      return machine.level < Level::kAvx512 || !machine.dnn_has_float16;
    default:
      return false;
  }
}

bool is_dense_on_cpu(const at::Tensor& tensor) {
  return tensor.is_cpu() && tensor.layout() == at::kStrided && !tensor.is_conj() && !tensor.is_neg();
}

MatmulChoice choice_for(const at::Tensor& left, const at::Tensor& right) {
  if (!is_dense_on_cpu(left) || !is_dense_on_cpu(right) || left.scalar_type() != right.scalar_type()) {
    return MatmulChoice::kLibTorch;
  }
  return matmul_choice(MatmulMachine::current(), {.dtype = left.scalar_type(),
                                                  .rows = left.size(0),
                                                  .inner = left.size(1),
                                                  .columns = right.size(1),
                                                  .right_by_columns = right.stride(0) == 1});
}

struct KernelLinear : torch::autograd::Function<KernelLinear> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& input, const at::Tensor& weight,
                            const std::optional<at::Tensor>& bias, int64_t choice) {
    // A frozen weight needs no input in backward.
    context->save_for_backward({weight.requires_grad() ? input : at::Tensor(), weight});
    context->saved_data["has_bias"] = bias.has_value();
    return rows_in_shape(
        kernel_matmul(static_cast<MatmulChoice>(choice), rows_of(input), weight.t(), bias.value_or(at::Tensor())),
        input.sizes());
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    const auto saved = context->get_saved_variables();
    const auto &input = saved[0], &weight = saved[1];
    const auto grad = rows_of(grads[0]);
    // Gradients that have gradients themselves need an operator that knows its own.
    const auto product = [](const at::Tensor& left, const at::Tensor& right) {
      return at::GradMode::is_enabled() ? at::mm(left, right) : functional::mm(left, right);
    };
    variable_list gradients(4);
    if (context->needs_input_grad(0)) {
      gradients[0] = rows_in_shape(product(grad, weight), grads[0].sizes());
    }
    if (context->needs_input_grad(1)) {
      gradients[1] = product(grad.t(), rows_of(input));
    }
    if (context->saved_data["has_bias"].toBool() && context->needs_input_grad(2)) {
      gradients[2] = grad.sum(0);
    }
    return gradients;
  }
};

at::Tensor kernel_linear(MatmulChoice choice, const at::Tensor& input, const at::Tensor& weight,
                         const at::Tensor& bias) {
  const bool records_gradients = at::GradMode::is_enabled() && (input.requires_grad() || weight.requires_grad() ||
                                                                (bias.defined() && bias.requires_grad()));
  if (records_gradients) {
    return KernelLinear::apply(input, weight, bias.defined() ? std::make_optional(bias) : std::nullopt,
                               static_cast<int64_t>(choice));
  }
  return rows_in_shape(kernel_matmul(choice, rows_of(input), weight.t(), bias), input.sizes());
}

/// Whether the operands are what at::linear is documented for; it says what is wrong with others.
bool fit(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias) {
  return input.dim() > 0 && weight.dim() == 2 && input.size(-1) == weight.size(1) && input.numel() > 0 &&
         (!bias.defined() || (is_dense_on_cpu(bias) && bias.sizes() == at::IntArrayRef{weight.size(0)}));
}

/// The choice if all operands were of this dtype.
MatmulChoice linear_choice(const at::Tensor& input, const at::Tensor& weight, c10::ScalarType dtype) {
  if (!is_dense_on_cpu(input) || !is_dense_on_cpu(weight)) {
    return MatmulChoice::kLibTorch;
  }
  return matmul_choice(MatmulMachine::current(), {.dtype = dtype,
                                                  .rows = input.numel() / input.size(-1),
                                                  .inner = weight.size(1),
                                                  .columns = weight.size(0),
                                                  .right_by_columns = weight.stride(1) == 1});
}

/// With autocast's casts, for autocast knows no kernels.
at::Tensor linear_under_autocast(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias) {
  const auto dtype = at::autocast::get_autocast_dtype(at::kCPU);
  const bool can_cast = input.scalar_type() != at::kDouble && weight.scalar_type() != at::kDouble;
  const auto choice = can_cast ? linear_choice(input, weight, dtype) : MatmulChoice::kLibTorch;
  if (choice == MatmulChoice::kLibTorch) {
    return at::linear(input, weight, bias);
  }
  const auto cast = [&](const at::Tensor& tensor) { return at::autocast::cached_cast(dtype, tensor, at::kCPU); };
  const auto cast_input = cast(input), cast_weight = cast(weight), cast_bias = bias.defined() ? cast(bias) : bias;
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::DispatchKey::AutocastCPU);
  return kernel_linear(choice, cast_input, cast_weight, cast_bias);
}

}  // namespace

const MatmulMachine& MatmulMachine::current() {
  static const MatmulMachine machine{.level = kernels::active_level(),
                                     .dnn_has_bfloat16 = dnn_supports("mkldnn::_is_mkldnn_bf16_supported"),
                                     .dnn_has_float16 = dnn_supports("mkldnn::_is_mkldnn_fp16_supported")};
  return machine;
}

MatmulChoice matmul_choice(const MatmulMachine& machine, const MatmulShape& shape) {
  constexpr int64_t kSmallestWeight = 1 << 15, kShortestRow = 64, kFewestProducts = 1 << 18;
  const auto dtype = shape.dtype;
  const bool has_kernels = dtype == at::kFloat || dtype == at::kBFloat16 || dtype == at::kHalf;
  const auto weights = shape.inner * shape.columns;
  if (!kernels::enabled() || !has_kernels || shape.rows == 0) {
    return MatmulChoice::kLibTorch;
  }
  const bool is_worth_reading = weights >= kSmallestWeight && shape.inner >= kShortestRow;
  if (shape.right_by_columns && shape.rows <= most_few_rows(machine, dtype) && is_worth_reading) {
    return MatmulChoice::kFewRows;
  }
  const bool is_worth_packing = packs_many_rows(machine, dtype) && shape.rows * weights >= kFewestProducts;
  return is_worth_packing ? MatmulChoice::kManyRows : MatmulChoice::kLibTorch;
}

at::Tensor functional::mm(const at::Tensor& left, const at::Tensor& right) {
  const auto choice = choice_for(left, right);
  return choice == MatmulChoice::kLibTorch ? at::mm(left, right) : kernel_matmul(choice, left, right, at::Tensor());
}

void functional::addmm_(at::Tensor& sum, const at::Tensor& left, const at::Tensor& right, bool adds) {
  const auto choice = sum.scalar_type() == left.scalar_type() ? choice_for(left, right) : MatmulChoice::kLibTorch;
  if (choice == MatmulChoice::kLibTorch) {
    sum.addmm_(left, right, /*beta=*/adds ? 1 : 0);
    return;
  }
  const auto product = kernel_matmul(choice, left, right, at::Tensor());
  adds ? sum.add_(product) : sum.copy_(product);
}

at::Tensor functional::linear(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias,
                              bool training) {
  if (training && dnn_linear_is_faster(input, weight)) {
    return dnn_linear(input, weight, bias);
  }
  if (!fit(input, weight, bias)) {
    return at::linear(input, weight, bias);
  }
  if (at::autocast::is_autocast_enabled(at::kCPU)) {
    return linear_under_autocast(input, weight, bias);
  }
  const auto dtype = input.scalar_type();
  const bool same_dtype = weight.scalar_type() == dtype && (!bias.defined() || bias.scalar_type() == dtype);
  const auto choice = same_dtype ? linear_choice(input, weight, dtype) : MatmulChoice::kLibTorch;
  return choice == MatmulChoice::kLibTorch ? at::linear(input, weight, bias)
                                           : kernel_linear(choice, input, weight, bias);
}

}  // namespace transformers
