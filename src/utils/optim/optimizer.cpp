// The base of the library's optimizers. A step gathers the parameters that have a gradient with their states, lets the
// derived class update the batch, and writes fp32 values back into bf16 and fp16 parameters. State dicts are keyed
// "<index>.<name>" and every entry is checked before any is taken.
#include <ATen/ATen.h>
#include <torch/csrc/autograd/grad_mode.h>
#include <torch/serialize/archive.h>
#include <transformers/utils/optim/optimizer.h>
#include <transformers/utils/optim/parameter_groups.h>

#include <charconv>
#include <cmath>
#include <unordered_map>

#include "utils/optim/quantized_state.h"
#include "utils/optim/stochastic_rounding.h"
#include "utils/text/printable.h"

namespace transformers {
namespace {

bool is_low_precision(const at::Tensor& parameter) {
  return parameter.scalar_type() == at::kBFloat16 || parameter.scalar_type() == at::kHalf;
}

/// "12.exp_avg" → 12, "exp_avg".
std::pair<size_t, std::string> split_key(const std::string& key, size_t count) {
  const auto dot = key.find('.');
  size_t index = 0;
  const auto* end = key.data() + std::min(dot, key.size());
  const auto [last, error] = std::from_chars(key.data(), end, index);
  TORCH_CHECK(dot != std::string::npos && error == std::errc() && last == end && index < count, "optimizer state \"",
              printable(key), "\" must name one of ", count, " parameters by its index");
  return {index, key.substr(dot + 1)};
}

bool is_quantized(const std::string& name) { return name == "state1" || name == "state2"; }

/// The states that have the same shape as the parameter.
bool is_parameter_shaped(const std::string& name) {
  return name == "exp_avg" || name == "exp_avg_sq" || name == "max_exp_avg_sq" || name == "momentum_buffer" ||
         name == "master" || is_quantized(name);
}

/// The shape of the row or the column that Adafactor keeps for a matrix.
std::vector<int64_t> factored_shape(const at::Tensor& parameter, const std::string& name) {
  auto shape = parameter.sizes().vec();
  if (shape.size() >= 2) {
    shape.erase(name == "exp_avg_sq_row" ? shape.end() - 1 : shape.end() - 2);
  }
  return shape;
}

void check_shape(const std::string& key, const at::Tensor& entry, at::IntArrayRef expected) {
  TORCH_CHECK(entry.sizes() == expected, "optimizer state \"", printable(key), "\" must have the shape ", expected,
              ", found ", entry.sizes());
}

/// Throws when the entry of a saved state cannot belong to the parameter.
void check_entry(const std::string& key, const std::string& name, const at::Tensor& entry,
                 const at::Tensor& parameter) {
  if (is_parameter_shaped(name)) {
    check_shape(key, entry, parameter.sizes());
  } else if (name == "exp_avg_sq_row" || name == "exp_avg_sq_col") {
    check_shape(key, entry, factored_shape(parameter, name));
  } else if (name.starts_with("absmax")) {
    const auto blocks = (parameter.numel() + kQuantizedBlock - 1) / kQuantizedBlock;
    TORCH_CHECK(entry.dim() == 1 && entry.size(0) == blocks, "optimizer state \"", printable(key),
                "\" must have a scale for each of ", blocks, " blocks, found ", entry.sizes());
  } else {
    TORCH_CHECK(name == "step", "optimizer state \"", printable(key), "\" is of no optimizer of this library");
    check_shape(key, entry, {});
    const auto steps = entry.is_floating_point() ? entry.item<double>() : -1;
    TORCH_CHECK(std::isfinite(steps) && steps >= 0, "optimizer state \"", printable(key),
                "\" must be a floating number of steps, found ", entry.scalar_type(), " ", steps);
  }
  TORCH_CHECK(is_quantized(name) ? entry.scalar_type() == at::kByte : entry.is_floating_point(), "optimizer state \"",
              printable(key), "\" must be ", is_quantized(name) ? "uint8" : "floating", ", found ",
              entry.scalar_type());
}

/// Adds each parameter once. Mirrors what torch.optim.Optimizer.add_param_group refuses. Python updates a parameter
/// that occurs twice in a group twice, and warns that this will become an error.
std::vector<torch::optim::OptimizerParamGroup> without_duplicates(
    const std::vector<torch::optim::OptimizerParamGroup>& groups) {
  std::unordered_map<const void*, size_t> owners;
  std::vector<torch::optim::OptimizerParamGroup> result;
  for (size_t i = 0; i < groups.size(); ++i) {
    auto& group = result.emplace_back(groups[i]);
    std::erase_if(group.params(), [&](const at::Tensor& parameter) {
      const auto [owner, is_new] = owners.emplace(parameter.unsafeGetTensorImpl(), i);
      TORCH_CHECK(owner->second == i, "some parameter of shape ", parameter.sizes(),
                  " appears in more than one parameter group, ", owner->second, " and ", i);
      return !is_new;
    });
  }
  return result;
}

/// A group's key in an archive.
std::string group_key(size_t index) { return "group_" + std::to_string(index); }

}  // namespace

std::vector<at::Tensor*> ParamState::parameter_shaped() {
  std::vector<at::Tensor*> shaped;
  for (auto& [name, tensor] : tensors) {
    TORCH_CHECK(!is_quantized(name),
                "an 8-bit state cannot be narrowed or masked, its scales belong to blocks; drop it");
    if (is_parameter_shaped(name)) {
      shaped.push_back(&tensor);
    }
  }
  return shaped;
}

Optimizer::Optimizer(const std::vector<torch::optim::OptimizerParamGroup>& groups,
                     std::unique_ptr<torch::optim::OptimizerOptions> defaults, LowPrecision low_precision)
    : torch::optim::Optimizer(without_duplicates(groups), std::move(defaults)), low_precision_(low_precision) {
  for (const auto& parameter : all_parameters(*this)) {
    TORCH_CHECK(low_precision != LowPrecision::kStochasticRounding || parameter.scalar_type() != at::kHalf,
                "stochastic rounding is for bfloat16 parameters, found float16 of shape ", parameter.sizes());
  }
}

at::Tensor Optimizer::step(LossClosure closure) {
  at::Tensor loss;
  if (closure) {
    const at::AutoGradMode with_grad(true);
    loss = closure();
  }
  const at::NoGradGuard no_grad;
  for (const auto& group : param_groups_) {
    step_group(group, group.params());
  }
  return loss;
}

void Optimizer::step_parameter(const at::Tensor& parameter) {
  const at::NoGradGuard no_grad;
  for (const auto& group : param_groups_) {
    for (const auto& own : group.params()) {
      if (own.is_same(parameter)) {
        return step_group(group, {own});
      }
    }
  }
  TORCH_CHECK(false, "step_parameter: the optimizer has no such parameter, its shape is ", parameter.sizes());
}

void Optimizer::step_group(const torch::optim::OptimizerParamGroup& group, const std::vector<at::Tensor>& parameters) {
  std::vector<at::Tensor> with_grad;
  for (const auto& parameter : parameters) {
    if (parameter.grad().defined()) {
      with_grad.push_back(parameter);
    }
  }
  if (!with_grad.empty()) {
    auto batch = gather(group, with_grad);
    update(batch);
    write_back(with_grad, batch);
  }
}

Optimizer::Batch Optimizer::gather(const torch::optim::OptimizerParamGroup& group,
                                   const std::vector<at::Tensor>& parameters) {
  Batch batch{group.has_options() ? group.options() : *defaults_};
  for (const auto& parameter : parameters) {
    auto& state = state_of(parameter);
    batch.values.push_back(value_of(parameter, state));
    batch.grads.push_back(parameter.grad().to(batch.values.back().scalar_type()));
    batch.states.push_back(&state);
  }
  return batch;
}

ParamState& Optimizer::state_of(const at::Tensor& parameter) {
  auto& state = state_[parameter.unsafeGetTensorImpl()];
  if (!state) {
    state = std::make_unique<ParamState>();
  }
  return static_cast<ParamState&>(*state);
}

at::Tensor Optimizer::value_of(const at::Tensor& parameter, ParamState& state) const {
  if (!is_low_precision(parameter) || low_precision_ == LowPrecision::kPlain) {
    return parameter;
  }
  if (low_precision_ == LowPrecision::kStochasticRounding) {
    return parameter.to(at::kFloat);
  }
  auto& master = state.tensors["master"];
  if (!master.defined()) {
    master = parameter.detach().to(at::kFloat);
  }
  return master;
}

void Optimizer::write_back(const std::vector<at::Tensor>& parameters, const Batch& batch) const {
  for (size_t i = 0; i < parameters.size(); ++i) {
    auto parameter = parameters[i];
    if (parameter.is_same(batch.values[i])) {
      continue;
    }
    if (low_precision_ == LowPrecision::kStochasticRounding) {
      round_stochastically_(parameter, batch.values[i]);
    } else {
      parameter.copy_(batch.values[i]);
    }
  }
}

StateDict Optimizer::state_dict() const {
  StateDict result;
  const auto parameters = all_parameters(*this);
  for (size_t i = 0; i < parameters.size(); ++i) {
    const auto found = state_.find(parameters[i].unsafeGetTensorImpl());
    if (found != state_.end()) {
      for (const auto& [name, tensor] : static_cast<const ParamState&>(*found->second).tensors) {
        result.insert(std::to_string(i) + "." + name, tensor);
      }
    }
  }
  return result;
}

void Optimizer::load_state_dict(const StateDict& state) {
  const auto parameters = all_parameters(*this);
  std::vector<ParamState> loaded(parameters.size());
  for (const auto& item : state) {
    const auto [index, name] = split_key(item.key(), parameters.size());
    const auto& parameter = parameters[index];
    check_entry(item.key(), name, item.value(), parameter);
    loaded[index].tensors[name] = item.value().to(parameter.device()).clone();
  }
  state_.clear();
  for (size_t i = 0; i < parameters.size(); ++i) {
    if (!loaded[i].tensors.empty()) {
      state_of(parameters[i]) = std::move(loaded[i]);
    }
  }
}

void ParamState::serialize(torch::serialize::OutputArchive& archive) const {
  for (const auto& [name, tensor] : tensors) {
    archive.write(name, tensor, /*is_buffer=*/true);
  }
}

void ParamState::serialize(torch::serialize::InputArchive& archive) {
  for (const auto& name : archive.keys()) {
    archive.read(name, tensors[name], /*is_buffer=*/true);
  }
}

void Optimizer::save(torch::serialize::OutputArchive& archive) const {
  const auto parameters = all_parameters(*this);
  torch::serialize::OutputArchive states(archive.compilation_unit()), groups(archive.compilation_unit());
  for (size_t i = 0; i < parameters.size(); ++i) {
    if (const auto found = state_.find(parameters[i].unsafeGetTensorImpl()); found != state_.end()) {
      torch::serialize::OutputArchive state(archive.compilation_unit());
      found->second->serialize(state);
      states.write(std::to_string(i), state);
    }
  }
  for (size_t i = 0; i < param_groups_.size(); ++i) {
    torch::serialize::OutputArchive group(archive.compilation_unit()), options(archive.compilation_unit());
    (param_groups_[i].has_options() ? param_groups_[i].options() : *defaults_).serialize(options);
    group.write("options", options);
    group.write("size", at::scalar_tensor(static_cast<int64_t>(param_groups_[i].params().size()), at::kLong));
    groups.write(group_key(i), group);
  }
  archive.write("state", states);
  archive.write("param_groups", groups);
}

void Optimizer::load(torch::serialize::InputArchive& archive) {
  torch::serialize::InputArchive states, groups;
  TORCH_CHECK(archive.try_read("state", states) && archive.try_read("param_groups", groups),
              "the archive holds no state of this library's optimizers");
  TORCH_CHECK(groups.keys().size() == param_groups_.size(), "the archive holds an optimizer with ",
              groups.keys().size(), " parameter groups, this one has ", param_groups_.size());
  std::vector<std::unique_ptr<torch::optim::OptimizerOptions>> options;
  for (size_t i = 0; i < param_groups_.size(); ++i) {
    torch::serialize::InputArchive group, saved;
    groups.read(group_key(i), group);
    at::Tensor size;
    group.read("size", size);
    TORCH_CHECK(size.item<int64_t>() == static_cast<int64_t>(param_groups_[i].params().size()), "parameter group ", i,
                " has ", size.item<int64_t>(), " parameters in the archive and ", param_groups_[i].params().size(),
                " here");
    group.read("options", saved);
    options.push_back((param_groups_[i].has_options() ? param_groups_[i].options() : *defaults_).clone());
    options.back()->serialize(saved);
  }
  StateDict state;
  for (const auto& index : states.keys()) {
    torch::serialize::InputArchive entry;
    states.read(index, entry);
    ParamState loaded;
    loaded.serialize(entry);
    for (const auto& [name, tensor] : loaded.tensors) {
      state.insert(std::string(index).append(".").append(name), tensor);
    }
  }
  load_state_dict(state);
  for (size_t i = 0; i < param_groups_.size(); ++i) {
    param_groups_[i].set_options(std::move(options[i]));
  }
}

}  // namespace transformers
