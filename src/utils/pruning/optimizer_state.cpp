// Makes optimizer states follow a pruning: per optimizer class, which of its tensors have the parameter's shape, and
// how they are narrowed, dropped or cleared where a mask hides entries.
#include <ATen/core/grad_mode.h>
#include <ATen/ops/full_like.h>
#include <torch/optim/adagrad.h>
#include <torch/optim/adam.h>
#include <torch/optim/adamw.h>
#include <torch/optim/lbfgs.h>
#include <torch/optim/rmsprop.h>
#include <torch/optim/sgd.h>
#include <transformers/utils/pruning/optimizer_state.h>

#include <algorithm>
#include <iterator>

namespace transformers {
namespace {

namespace optim = torch::optim;

/// The tensors of a state that have the parameter's shape; some may be undefined.
std::vector<at::Tensor*> tensors_of(optim::OptimizerParamState& state) {
  if (auto* sgd = dynamic_cast<optim::SGDParamState*>(&state)) {
    return {&sgd->momentum_buffer()};
  }
  if (auto* adam = dynamic_cast<optim::AdamParamState*>(&state)) {
    return {&adam->exp_avg(), &adam->exp_avg_sq(), &adam->max_exp_avg_sq()};
  }
  if (auto* adamw = dynamic_cast<optim::AdamWParamState*>(&state)) {
    return {&adamw->exp_avg(), &adamw->exp_avg_sq(), &adamw->max_exp_avg_sq()};
  }
  if (auto* rmsprop = dynamic_cast<optim::RMSpropParamState*>(&state)) {
    return {&rmsprop->square_avg(), &rmsprop->momentum_buffer(), &rmsprop->grad_avg()};
  }
  if (auto* adagrad = dynamic_cast<optim::AdagradParamState*>(&state)) {
    return {&adagrad->sum()};
  }
  if (auto* own = dynamic_cast<NarrowableState*>(&state)) {
    return own->parameter_shaped();
  }
  TORCH_CHECK(false, "only the state of SGD, Adam, AdamW, RMSprop and Adagrad can be narrowed or masked; drop it");
}

optim::OptimizerParamState* state_of(optim::Optimizer& optimizer, const at::Tensor& parameter) {
  const auto found = optimizer.state().find(parameter.unsafeGetTensorImpl());
  return found == optimizer.state().end() ? nullptr : found->second.get();
}

bool has(const optim::OptimizerParamGroup& group, const at::Tensor& parameter) {
  return std::any_of(group.params().begin(), group.params().end(),
                     [&](const at::Tensor& other) { return other.is_same(parameter); });
}

/// LibTorch's Adagrad creates its state in the constructor, and expects it from then on.
void restart(optim::AdagradParamState& state, const optim::Optimizer& optimizer, const at::Tensor& parameter) {
  const auto& options = static_cast<const optim::AdagradOptions&>(optimizer.defaults());
  state.sum(at::full_like(parameter.detach(), options.initial_accumulator_value()));
  state.step(0);
}

void drop(optim::Optimizer& optimizer, const at::Tensor& parameter) {
  if (auto* adagrad = dynamic_cast<optim::AdagradParamState*>(state_of(optimizer, parameter))) {
    restart(*adagrad, optimizer, parameter);
  } else {
    optimizer.state().erase(parameter.unsafeGetTensorImpl());
  }
}

void narrow(optim::Optimizer& optimizer, const NarrowedParameter& narrowed) {
  auto* state = state_of(optimizer, narrowed.parameter);
  if (state == nullptr) {
    return;
  }
  for (auto* tensor : tensors_of(*state)) {
    if (tensor->defined()) {
      *tensor = narrowed.select(*tensor).contiguous();
    }
  }
}

/// Narrowing starts from the shape that each parameter had at first.
void check_can_narrow(optim::Optimizer& optimizer, const std::vector<NarrowedParameter>& narrowed) {
  std::vector<at::Tensor> seen;
  for (const auto& entry : narrowed) {
    const bool is_first =
        std::none_of(seen.begin(), seen.end(), [&](const at::Tensor& other) { return other.is_same(entry.parameter); });
    auto* state = state_of(optimizer, entry.parameter);
    if (!is_first || state == nullptr) {
      continue;
    }
    seen.push_back(entry.parameter);
    for (const auto* tensor : tensors_of(*state)) {
      TORCH_CHECK(!tensor->defined() || tensor->sizes() == at::IntArrayRef(entry.old_sizes),
                  "the optimizer's state of a pruned parameter must have the shape it had, ",
                  at::IntArrayRef(entry.old_sizes), ", got ", tensor->sizes());
    }
  }
}

void join_group(optim::Optimizer& optimizer, const AddedParameter& added) {
  for (auto& group : optimizer.param_groups()) {
    if (!has(group, added.beside)) {
      continue;
    }
    group.params().push_back(added.parameter);
    if (dynamic_cast<optim::Adagrad*>(&optimizer) != nullptr) {
      auto state = std::make_unique<optim::AdagradParamState>();
      restart(*state, optimizer, added.parameter);
      optimizer.state()[added.parameter.unsafeGetTensorImpl()] = std::move(state);
    }
  }
}

}  // namespace

void PrunedParameters::append(PrunedParameters more) {
  std::move(more.narrowed.begin(), more.narrowed.end(), std::back_inserter(narrowed));
  std::move(more.added.begin(), more.added.end(), std::back_inserter(added));
}

void update_optimizer(optim::Optimizer& optimizer, const PrunedParameters& pruned, OptimizerState state) {
  TORCH_CHECK(dynamic_cast<optim::LBFGS*>(&optimizer) == nullptr,
              "LBFGS remembers the size of all parameters together; build it anew after pruning");
  const at::NoGradGuard no_grad;
  if (state == OptimizerState::kNarrow) {
    check_can_narrow(optimizer, pruned.narrowed);
    for (const auto& narrowed : pruned.narrowed) {
      narrow(optimizer, narrowed);
    }
  } else {
    for (const auto& narrowed : pruned.narrowed) {
      drop(optimizer, narrowed.parameter);
    }
  }
  for (const auto& added : pruned.added) {
    join_group(optimizer, added);
  }
}

void clear_hidden_state(optim::Optimizer& optimizer) {
  const at::NoGradGuard no_grad;
  if (dynamic_cast<optim::LBFGS*>(&optimizer) != nullptr) {
    optimizer.state().clear();
    return;
  }
  for (const auto& group : optimizer.param_groups()) {
    for (const auto& parameter : group.params()) {
      const auto mask = ParameterMask::on(parameter);
      auto* state = state_of(optimizer, parameter);
      if (!mask || state == nullptr) {
        continue;
      }
      for (auto* tensor : tensors_of(*state)) {
        if (tensor->defined()) {
          tensor->masked_fill_(mask->mask().eq(0), 0);
        }
      }
    }
  }
}

}  // namespace transformers
