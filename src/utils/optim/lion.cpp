#include <ATen/ATen.h>
#include <torch/optim/serialize.h>
#include <transformers/utils/optim/optimizer.h>

namespace transformers {
namespace {

const LionOptions& checked(const LionOptions& options) {
  const auto [beta1, beta2] = options.betas();
  TORCH_CHECK(options.lr() >= 0 && options.weight_decay() >= 0, "Lion: lr and weight_decay must be 0 or more, got ",
              options.lr(), " and ", options.weight_decay());
  TORCH_CHECK(beta1 >= 0 && beta1 < 1 && beta2 >= 0 && beta2 < 1, "Lion: betas must lie in [0, 1), got ", beta1,
              " and ", beta2);
  return options;
}

}  // namespace

void LionOptions::serialize(torch::serialize::OutputArchive& archive) const {
  _TORCH_OPTIM_SERIALIZE_TORCH_ARG(lr);
  _TORCH_OPTIM_SERIALIZE_TORCH_ARG(betas);
  _TORCH_OPTIM_SERIALIZE_TORCH_ARG(weight_decay);
}

void LionOptions::serialize(torch::serialize::InputArchive& archive) {
  _TORCH_OPTIM_DESERIALIZE_TORCH_ARG(double, lr);
  _TORCH_OPTIM_DESERIALIZE_TORCH_ARG(betas_t, betas);
  _TORCH_OPTIM_DESERIALIZE_TORCH_ARG(double, weight_decay);
}

Lion::Lion(const std::vector<torch::optim::OptimizerParamGroup>& groups, LionOptions defaults,
           LowPrecision low_precision)
    : Optimizer(groups, std::make_unique<LionOptions>(checked(defaults)), low_precision) {}

void Lion::update(Batch& batch) {
  const auto& options = static_cast<const LionOptions&>(batch.options);
  const auto [beta1, beta2] = options.betas();
  for (size_t i = 0; i < batch.values.size(); ++i) {
    auto& value = batch.values[i];
    const auto& grad = batch.grads[i];
    auto& exp_avg = batch.states[i]->tensors["exp_avg"];
    if (!exp_avg.defined()) {
      exp_avg = at::zeros_like(value);
    }
    value.mul_(1 - options.lr() * options.weight_decay());
    value.add_(at::lerp(grad, exp_avg, beta1).sign_(), -options.lr());
    exp_avg.lerp_(grad, 1 - beta2);
  }
}

}  // namespace transformers
