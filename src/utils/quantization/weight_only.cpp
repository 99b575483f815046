#include <ATen/ATen.h>
#include <ATen/autocast_mode.h>
#include <torch/csrc/autograd/custom_function.h>
#include <transformers/utils/quantization/weight_only.h>

#include <array>
#include <optional>

#include "utils/kernels/kernels.h"
#include "utils/nn/internal/matmul.h"
#include "utils/nn/internal/matrix_rows.h"
#include "utils/nn/internal/parallel_for.h"
#include "utils/quantization/stored_weight.h"
#include "utils/text/named_values.h"

namespace transformers {
namespace {

constexpr std::array<NamedValue<WeightFormat>, 2> kFormats{
    {{"int8", WeightFormat::kInt8}, {"int4", WeightFormat::kInt4}}};

// With more rows than this, making a dense copy costs less than decoding the stored form for each row.
constexpr int64_t kFewRows = 4;

/// The dtype of a matmul: that of autocast if it is enabled.
c10::ScalarType product_dtype(const at::Tensor& input) {
  const auto device = input.device().type();
  return at::autocast::is_autocast_enabled(device) ? at::autocast::get_autocast_dtype(device) : input.scalar_type();
}

/// input [..., in] · weightᵀ. Backward makes the dense weight again, so that it need not be kept.
struct FrozenProduct : torch::autograd::Function<FrozenProduct> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& input, int64_t out,
                            const at::Tensor& values, const at::Tensor& scales,
                            const std::optional<at::Tensor>& zeros) {
    const QuantizedWeight weight{values, scales, zeros.value_or(at::Tensor())};
    context->save_for_backward({weight.values, weight.scales, weight.zeros});
    context->saved_data["out"] = out;
    context->saved_data["in"] = input.size(-1);
    return functional::linear(input, dense(weight, out, input.size(-1), input.scalar_type()), {}, /*training=*/false);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const auto out = context->saved_data["out"].toInt(), in = context->saved_data["in"].toInt();
    const auto weight = dense({saved[0], saved[1], saved[2]}, out, in, gradients[0].scalar_type());
    if (at::GradMode::is_enabled()) {
      return {at::matmul(gradients[0], weight), {}, {}, {}, {}};
    }
    return {rows_in_shape(functional::mm(rows_of(gradients[0]), weight), gradients[0].sizes()), {}, {}, {}, {}};
  }
};

/// [rows, in]: the even positions of each group before the odd ones, in the order in which the kernel reads them.
at::Tensor evens_before_odds(const at::Tensor& rows, int64_t group_size) {
  return rows.view({rows.size(0), rows.size(1) / group_size, group_size / 2, 2}).transpose(2, 3).contiguous();
}

}  // namespace

WeightFormat weight_format_from_name(const std::string& name) { return value_of_name(kFormats, "weight format", name); }

WeightOnlyLinear::WeightOnlyLinear(const torch::Tensor& weight, const QuantizationOptions& options)
    : dtype_(weight.scalar_type()) {
  const at::NoGradGuard no_grad;
  TORCH_CHECK(weight.dim() == 2 && weight.is_floating_point(), "WeightOnlyLinear: expected a floating matrix, got ",
              weight.scalar_type(), " ", weight.sizes());
  out_ = weight.size(0);
  in_ = weight.size(1);
  const auto group_size = options.group_size;
  TORCH_CHECK(options.format == WeightFormat::kInt8 ||
                  (group_size > 0 && group_size % 2 == 0 && weight.size(1) % group_size == 0),
              "WeightOnlyLinear: group_size must be even and divide in_features ", in_, ", got ", group_size);
  rounds_activations_ = options.activations == ActivationFormat::kInt8 && can_be_interleaved(options, in_);
  weight_ = quantized_weight(weight.detach(), options, rounds_activations_ && weight.is_cpu());
}

std::shared_ptr<const LinearMethod> WeightOnlyLinear::clone(const LinearImpl&, TensorCopies& copies) const {
  const at::NoGradGuard no_grad;
  auto method = std::make_shared<WeightOnlyLinear>(*this);
  auto& weight = method->weight_;
  weight = {copies.of(weight_.values), copies.of(weight_.scales), copies.of(weight_.zeros)};
  if (rounds_activations_ && weight.values.is_cpu() != is_interleaved(weight)) {
    weight = is_interleaved(weight) ? plain(weight, out_, in_) : interleaved(weight);
  }
  return method;
}

torch::Tensor WeightOnlyLinear::dequantized(std::optional<c10::ScalarType> dtype) const {
  const at::NoGradGuard no_grad;
  return dense(weight_, out_, in_, dtype.value_or(dtype_));
}

WeightOnlyLinear::Quantized WeightOnlyLinear::quantized() const {
  const at::NoGradGuard no_grad;
  return plain(weight_, out_, in_);
}

int64_t WeightOnlyLinear::bytes() const {
  return static_cast<int64_t>(weight_.values.nbytes() + weight_.scales.nbytes() +
                              (weight_.zeros.defined() ? weight_.zeros.nbytes() : 0));
}

torch::Tensor WeightOnlyLinear::multiply_few_rows(const torch::Tensor& input) const {
  const auto in = input.size(-1), out = weight_.values.size(0);
  auto rows = input.to(at::kFloat).reshape({-1, in}).contiguous();
  auto output = at::empty({rows.size(0), out}, rows.options());
  at::Tensor sums;
  if (weight_.zeros.defined()) {
    const auto group_size = in / weight_.scales.size(1);
    sums = rows.view({rows.size(0), in / group_size, group_size}).sum(2);
    rows = evens_before_odds(rows, group_size);
  }
  parallel_for(0, out, 64, [&](int64_t begin, int64_t end) { multiply_slice(rows, sums, begin, end, output); });
  return rows_in_shape(output, input.sizes()).to(input.scalar_type());
}

void WeightOnlyLinear::multiply_slice(const torch::Tensor& rows, const torch::Tensor& sums, int64_t begin, int64_t end,
                                      torch::Tensor& output) const {
  const auto* x = rows.const_data_ptr<float>();
  auto* y = output.mutable_data_ptr<float>();
  const auto& table = kernels::quantized_kernels();
  if (!weight_.zeros.defined()) {
    const kernels::Int8Weight weight{.values = weight_.values.const_data_ptr<int8_t>(),
                                     .scales = weight_.scales.const_data_ptr<float>(),
                                     .out = weight_.values.size(0),
                                     .in = weight_.values.size(1)};
    table.int8_matmul(weight, x, output.size(0), begin, end, y);
    return;
  }
  const auto in = weight_.values.size(1) * 2;
  const kernels::Int4Weight weight{.values = weight_.values.const_data_ptr<uint8_t>(),
                                   .scales = static_cast<const uint16_t*>(weight_.scales.const_data_ptr()),
                                   .zeros = static_cast<const uint16_t*>(weight_.zeros.const_data_ptr()),
                                   .out = weight_.values.size(0),
                                   .in = in,
                                   .group = in / weight_.scales.size(1)};
  table.int4_matmul(weight, x, sums.const_data_ptr<float>(), output.size(0), begin, end, y);
}

torch::Tensor WeightOnlyLinear::forward(const LinearImpl& linear, const torch::Tensor& input) const {
  TORCH_CHECK(input.size(-1) == linear.options.in_features(), "Linear: the input must have ",
              linear.options.in_features(), " features, got ", input.sizes());
  const auto cast = input.to(product_dtype(input));
  const bool records_gradients = at::GradMode::is_enabled() && input.requires_grad();
  const bool uses_kernel = kernels::enabled() && !records_gradients && cast.is_cpu();
  at::Tensor output;
  // Not in training mode: a checkpointed layer computes its outputs with and without gradients and needs the same.
  if (uses_kernel && is_interleaved(weight_) && !linear.is_training()) {
    output = integer_matmul(weight_, out_, cast).to(cast.scalar_type());
  } else if (uses_kernel && !is_interleaved(weight_) && cast.numel() <= kFewRows * cast.size(-1)) {
    output = multiply_few_rows(cast);
  } else {
    const auto zeros = weight_.zeros.defined() ? std::make_optional(weight_.zeros) : std::nullopt;
    output = FrozenProduct::apply(cast, out_, weight_.values, weight_.scales, zeros);
  }
  return linear.bias.defined() ? output + linear.bias.to(output.scalar_type()) : output;
}

}  // namespace transformers
