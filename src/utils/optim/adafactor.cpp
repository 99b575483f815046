// Mirrors `Adafactor` of optimization.py, transformers 5.23.0.
#include <ATen/ATen.h>
#include <torch/optim/serialize.h>
#include <transformers/utils/optim/optimizer.h>

#include <algorithm>
#include <cmath>

namespace transformers {
namespace {

const AdafactorOptions& checked(const AdafactorOptions& options) {
  TORCH_CHECK(!options.warmup_init() || options.relative_step(), "Adafactor: warmup_init needs relative_step");
  TORCH_CHECK(options.weight_decay() >= 0 && options.clip_threshold() > 0,
              "Adafactor: weight_decay must be 0 or more and clip_threshold positive, got ", options.weight_decay(),
              " and ", options.clip_threshold());
  return options;
}

double root_mean_square(const at::Tensor& tensor) {
  return tensor.norm(2).item<double>() / std::sqrt(static_cast<double>(tensor.numel()));
}

at::Tensor& zeros_at_first(ParamState& state, const char* name, at::IntArrayRef shape, const at::Tensor& like) {
  auto& tensor = state.tensors[name];
  if (!tensor.defined()) {
    tensor = at::zeros(shape, like.options());
  }
  return tensor;
}

double learning_rate(const AdafactorOptions& options, double step, const at::Tensor& value) {
  auto rate = options.lr();
  if (options.relative_step()) {
    rate = std::min(options.warmup_init() ? 1e-6 * step : 1e-2, 1 / std::sqrt(step));
  }
  return options.scale_parameter() ? rate * std::max(std::get<1>(options.eps()), root_mean_square(value)) : rate;
}

/// The gradient divided by the root of its second moment. For a matrix only a row and a column of the second moment are
/// kept.
at::Tensor normalised(const at::Tensor& grad, ParamState& state, double beta2, double eps) {
  const auto square = grad.square().add_(eps);
  if (grad.dim() < 2) {
    auto& average = zeros_at_first(state, "exp_avg_sq", grad.sizes(), grad);
    return average.mul_(beta2).add_(square, 1 - beta2).rsqrt().mul_(grad);
  }
  auto column_shape = grad.sizes().vec();
  column_shape.erase(column_shape.end() - 2);
  auto& row = zeros_at_first(state, "exp_avg_sq_row", grad.sizes().slice(0, grad.dim() - 1), grad);
  auto& column = zeros_at_first(state, "exp_avg_sq_col", column_shape, grad);
  row.mul_(beta2).add_(square.mean(-1), 1 - beta2);
  column.mul_(beta2).add_(square.mean(-2), 1 - beta2);
  const auto row_factor = (row / row.mean(-1, /*keepdim=*/true)).rsqrt_().unsqueeze(-1);
  return (row_factor * column.unsqueeze(-2).rsqrt()).mul_(grad);
}

void update_one(at::Tensor& value, const at::Tensor& grad, ParamState& state, const AdafactorOptions& options) {
  auto& steps = zeros_at_first(state, "step", {}, at::empty({}, at::kFloat));
  const auto step = steps.add_(1).item<double>();
  const auto rate = learning_rate(options, step, value);
  const auto beta2 = 1 - std::pow(step, options.decay_rate());
  auto change = normalised(grad, state, beta2, std::get<0>(options.eps()));
  change.div_(std::max(1.0, root_mean_square(change) / options.clip_threshold())).mul_(rate);
  if (options.beta1()) {
    auto& average = zeros_at_first(state, "exp_avg", grad.sizes(), grad);
    change = average.mul_(*options.beta1()).add_(change, 1 - *options.beta1());
  }
  if (options.weight_decay() != 0) {
    value.add_(value, -options.weight_decay() * rate);
  }
  value.sub_(change);
}

}  // namespace

void AdafactorOptions::serialize(torch::serialize::OutputArchive& archive) const {
  _TORCH_OPTIM_SERIALIZE_TORCH_ARG(lr);
  _TORCH_OPTIM_SERIALIZE_TORCH_ARG(eps);
  _TORCH_OPTIM_SERIALIZE_TORCH_ARG(clip_threshold);
  _TORCH_OPTIM_SERIALIZE_TORCH_ARG(decay_rate);
  _TORCH_OPTIM_SERIALIZE_TORCH_ARG(beta1);
  _TORCH_OPTIM_SERIALIZE_TORCH_ARG(weight_decay);
  _TORCH_OPTIM_SERIALIZE_TORCH_ARG(scale_parameter);
  _TORCH_OPTIM_SERIALIZE_TORCH_ARG(relative_step);
  _TORCH_OPTIM_SERIALIZE_TORCH_ARG(warmup_init);
}

void AdafactorOptions::serialize(torch::serialize::InputArchive& archive) {
  _TORCH_OPTIM_DESERIALIZE_TORCH_ARG(double, lr);
  _TORCH_OPTIM_DESERIALIZE_TORCH_ARG(eps_t, eps);
  _TORCH_OPTIM_DESERIALIZE_TORCH_ARG(double, clip_threshold);
  _TORCH_OPTIM_DESERIALIZE_TORCH_ARG(double, decay_rate);
  _TORCH_OPTIM_DESERIALIZE_TORCH_ARG_OPTIONAL(double, beta1);
  _TORCH_OPTIM_DESERIALIZE_TORCH_ARG(double, weight_decay);
  _TORCH_OPTIM_DESERIALIZE_TORCH_ARG(bool, scale_parameter);
  _TORCH_OPTIM_DESERIALIZE_TORCH_ARG(bool, relative_step);
  _TORCH_OPTIM_DESERIALIZE_TORCH_ARG(bool, warmup_init);
}

Adafactor::Adafactor(const std::vector<torch::optim::OptimizerParamGroup>& groups, AdafactorOptions defaults,
                     LowPrecision low_precision)
    : Optimizer(groups, std::make_unique<AdafactorOptions>(checked(defaults)), low_precision) {}

void Adafactor::update(Batch& batch) {
  const auto& options = static_cast<const AdafactorOptions&>(batch.options);
  for (size_t i = 0; i < batch.values.size(); ++i) {
    auto value = batch.values[i].to(at::kFloat);
    update_one(value, batch.grads[i].to(at::kFloat), *batch.states[i], options);
    if (!value.is_same(batch.values[i])) {
      batch.values[i].copy_(value);
    }
  }
}

}  // namespace transformers
