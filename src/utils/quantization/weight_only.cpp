// int4 follows group-wise quantisation of gpt-fast (quantize.py, get_group_qparams) and torchao.
#include <ATen/ATen.h>
#include <ATen/autocast_mode.h>
#include <torch/csrc/autograd/custom_function.h>
#include <transformers/utils/quantization/weight_only.h>

#include <array>
#include <limits>
#include <optional>

#include "utils/kernels/kernels.h"
#include "utils/nn/internal/matmul.h"
#include "utils/nn/internal/parallel_for.h"
#include "utils/text/named_values.h"

namespace transformers {
namespace {

constexpr std::array<NamedValue<WeightFormat>, 2> kFormats{
    {{"int8", WeightFormat::kInt8}, {"int4", WeightFormat::kInt4}}};

// With more rows than this, making a dense copy costs less than decoding the stored form for each row.
constexpr int64_t kFewRows = 4;

using Quantized = WeightOnlyLinear::Quantized;

Quantized to_int8(const at::Tensor& weight) {
  const auto largest = weight.abs().amax(1).clamp_min(std::numeric_limits<float>::min() * 127);
  const auto scales = largest / 127;
  return {(weight * scales.reciprocal().unsqueeze(1)).round().clamp(-127, 127).to(at::kChar), scales, {}};
}

/// Packs two neighbours into a byte, the first one into the low half.
at::Tensor in_pairs(const at::Tensor& values) {
  const auto pairs = values.unflatten(-1, {-1, 2});
  return pairs.select(-1, 0).bitwise_or(pairs.select(-1, 1).bitwise_left_shift(4)).contiguous();
}

Quantized to_int4(const at::Tensor& weight, int64_t group_size) {
  const auto groups = weight.unflatten(1, {-1, group_size});
  const auto smallest = groups.amin(2), largest = groups.amax(2);
  const auto range = (largest - smallest).clamp_min(1e-6) / 15;
  const auto scales = range.to(at::kBFloat16), zeros = (smallest + range * 8).to(at::kBFloat16);
  const auto scale = scales.to(at::kFloat), base = zeros.to(at::kFloat) - scale * 8;
  const auto values = ((groups - base.unsqueeze(2)) / scale.unsqueeze(2)).round().clamp(0, 15).to(at::kByte);
  return {in_pairs(values.flatten(1)), scales, zeros};
}

at::Tensor dense(const Quantized& weight, c10::ScalarType dtype) {
  if (!weight.zeros.defined()) {
    return weight.values.to(at::kFloat).mul_(weight.scales.unsqueeze(1)).to(dtype);
  }
  const auto values = at::stack({weight.values.bitwise_and(15), weight.values.bitwise_right_shift(4)}, 2);
  const auto groups = values.view({weight.scales.size(0), weight.scales.size(1), -1}).to(at::kFloat).sub_(8);
  const auto scales = weight.scales.to(at::kFloat).unsqueeze(2), zeros = weight.zeros.to(at::kFloat).unsqueeze(2);
  return (groups * scales).add_(zeros).flatten(1).to(dtype);
}

/// The dtype of a matmul: that of autocast if it is enabled.
c10::ScalarType product_dtype(const at::Tensor& input) {
  const auto device = input.device().type();
  return at::autocast::is_autocast_enabled(device) ? at::autocast::get_autocast_dtype(device) : input.scalar_type();
}

/// input [..., in] · weightᵀ. Backward makes the dense weight again, so that it need not be kept.
struct FrozenProduct : torch::autograd::Function<FrozenProduct> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& input,
                            const at::Tensor& values, const at::Tensor& scales,
                            const std::optional<at::Tensor>& zeros) {
    const Quantized weight{values, scales, zeros.value_or(at::Tensor())};
    context->save_for_backward({weight.values, weight.scales, weight.zeros});
    return functional::linear(input, dense(weight, input.scalar_type()), {}, /*training=*/false);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const auto weight = dense({saved[0], saved[1], saved[2]}, gradients[0].scalar_type());
    if (at::GradMode::is_enabled()) {
      return {at::matmul(gradients[0], weight), {}, {}, {}};
    }
    auto sizes = gradients[0].sizes().vec();
    sizes.back() = weight.size(1);
    return {functional::mm(gradients[0].reshape({-1, weight.size(0)}), weight).view(sizes), {}, {}, {}};
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
  TORCH_CHECK(weight.isfinite().all().item<bool>(), "WeightOnlyLinear: the weight holds a value that is not finite");
  if (options.format == WeightFormat::kInt8) {
    weight_ = to_int8(weight.to(at::kFloat));
    return;
  }
  const auto group_size = options.group_size;
  TORCH_CHECK(group_size > 0 && group_size % 2 == 0 && weight.size(1) % group_size == 0,
              "WeightOnlyLinear: group_size must be even and divide in_features ", weight.size(1), ", got ",
              group_size);
  weight_ = to_int4(weight.to(at::kFloat), group_size);
}

std::shared_ptr<const LinearMethod> WeightOnlyLinear::clone(const LinearImpl&, TensorCopies& copies) const {
  auto method = std::make_shared<WeightOnlyLinear>(*this);
  method->weight_ = {copies.of(weight_.values), copies.of(weight_.scales), copies.of(weight_.zeros)};
  return method;
}

torch::Tensor WeightOnlyLinear::dequantized(std::optional<c10::ScalarType> dtype) const {
  const at::NoGradGuard no_grad;
  return dense(weight_, dtype.value_or(dtype_));
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
  auto sizes = input.sizes().vec();
  sizes.back() = out;
  return output.view(sizes).to(input.scalar_type());
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
  const bool few_rows =
      kernels::enabled() && !records_gradients && cast.is_cpu() && cast.numel() <= kFewRows * cast.size(-1);
  at::Tensor output;
  if (few_rows) {
    output = multiply_few_rows(cast);
  } else {
    const auto zeros = weight_.zeros.defined() ? std::make_optional(weight_.zeros) : std::nullopt;
    output = FrozenProduct::apply(cast, weight_.values, weight_.scales, zeros);
  }
  return linear.bias.defined() ? output + linear.bias.to(output.scalar_type()) : output;
}

}  // namespace transformers
