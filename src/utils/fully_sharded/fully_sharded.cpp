// The interface of fully sharded modules; the work is in fully_sharded_state.h.
#include <ATen/ATen.h>
#include <transformers/utils/distributed/module_sync.h>
#include <transformers/utils/fully_sharded/fully_sharded.h>

#include "utils/fully_sharded/fully_sharded_state.h"
#include "utils/nn/internal/gradient_norm.h"

namespace transformers {

FullyShardedModule::FullyShardedModule(std::shared_ptr<torch::nn::Module> module, ProcessGroup group,
                                       const FullyShardedOptions& options) {
  TORCH_CHECK(module, "FullyShardedDataParallel needs a module");
  state_ = std::make_shared<State>(std::move(module), std::move(group), options);
  state_->start();
}

FullyShardedModule::~FullyShardedModule() { state_->remove_hooks(); }

torch::nn::Module& FullyShardedModule::root() const { return *state_->module; }
const ProcessGroup& FullyShardedModule::group() const { return state_->group; }
const std::vector<ShardedParameter>& FullyShardedModule::sharded_parameters() const { return state_->parameters; }

std::vector<std::string> FullyShardedModule::unit_names() const {
  std::vector<std::string> names;
  for (const auto& unit : state_->units) {
    names.push_back(unit->name());
  }
  return names;
}

FullyShardedModule::NoSync FullyShardedModule::no_sync() { return NoSync(state_->require_sync); }

FullyShardedModule::FullParams::FullParams(FullyShardedModule& module, bool writeback)
    : module_(&module), writeback_(writeback) {
  module.state().settle();
  try {
    for (auto& unit : module.state().units) {
      unit->use_gathered();
    }
  } catch (...) {
    module.state().release_gathered(/*writeback=*/false);
    throw;
  }
}

FullyShardedModule::FullParams::~FullParams() { module_->state().release_gathered(writeback_); }

Value FullyShardedModule::prepared(const Value& input) const {
  const auto moved =
      state_->device.is_cpu() ? input : recursive_to(input, state_->device, /*use_side_stream_for_tensor_copies=*/true);
  return cast_forward_inputs(state_->options.mixed_precision.param_dtype, {moved}).args[0];
}

void FullyShardedModule::before_forward() { state_->before_forward(); }

void FullyShardedModule::after_forward(const std::optional<std::vector<at::Tensor>>& outputs) {
  state_->after_forward(outputs);
}

at::Tensor FullyShardedModule::clip_grad_norm_(double max_norm) {
  const at::NoGradGuard no_grad;
  auto squares = at::zeros({}, at::TensorOptions(at::kFloat).device(state_->device));
  std::vector<at::Tensor> gradients;
  for (const auto& parameter : state_->parameters) {
    if (const auto& gradient = parameter.parameter.grad(); gradient.defined()) {
      squares += gradient.to(at::kFloat).square().sum();
      gradients.push_back(gradient);
    }
  }
  state_->group.all_reduce(squares).wait();
  const auto norm = squares.sqrt();
  clip_grads_with_norm_(gradients, max_norm, norm);
  return norm;
}

}  // namespace transformers
