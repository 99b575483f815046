#include <ATen/ATen.h>
#include <transformers/utils/optim/optimizer.h>

namespace transformers {
namespace {

const torch::optim::SGDOptions& checked(const torch::optim::SGDOptions& options) {
  TORCH_CHECK(options.lr() >= 0 && options.momentum() >= 0 && options.weight_decay() >= 0,
              "SGD: lr, momentum and weight_decay must be 0 or more, got ", options.lr(), ", ", options.momentum(),
              " and ", options.weight_decay());
  TORCH_CHECK(!options.nesterov() || (options.momentum() > 0 && options.dampening() == 0),
              "SGD: Nesterov needs a momentum and no dampening, got ", options.momentum(), " and ",
              options.dampening());
  return options;
}

/// The direction of the update, after the gradient was added to the momentum.
at::Tensor with_momentum(at::Tensor grad, ParamState& state, const torch::optim::SGDOptions& options) {
  auto& buffer = state.tensors["momentum_buffer"];
  if (buffer.defined()) {
    buffer.mul_(options.momentum()).add_(grad, 1 - options.dampening());
  } else {
    buffer = grad.clone();
  }
  return options.nesterov() ? grad.add(buffer, options.momentum()) : buffer;
}

}  // namespace

SGD::SGD(const std::vector<torch::optim::OptimizerParamGroup>& groups, torch::optim::SGDOptions defaults,
         LowPrecision low_precision)
    : Optimizer(groups, std::make_unique<torch::optim::SGDOptions>(checked(defaults)), low_precision) {}

void SGD::update(Batch& batch) {
  const auto& options = static_cast<const torch::optim::SGDOptions&>(batch.options);
  for (size_t i = 0; i < batch.values.size(); ++i) {
    auto direction = batch.grads[i];
    if (options.weight_decay() != 0) {
      direction = direction.add(batch.values[i], options.weight_decay());
    }
    if (options.momentum() != 0) {
      direction = with_momentum(direction, *batch.states[i], options);
    }
    batch.values[i].add_(direction, -options.lr());
  }
}

}  // namespace transformers
