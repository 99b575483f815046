// Mirrors base_structured_sparsifier.py and sparsifier/base_sparsifier.py of torch.ao.pruning, torch 2.11.0.
#include <ATen/core/grad_mode.h>
#include <ATen/ops/scalar_tensor.h>
#include <c10/util/Exception.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/rnn.h>
#include <transformers/utils/pruning/base_structured_sparsifier.h>

#include <algorithm>
#include <map>

#include "utils/pruning/block_pruning.h"

namespace transformers {
namespace {

namespace nn = torch::nn;

void add_name(std::string& list, const std::string& name) { list += (list.empty() ? "'" : ", '") + name + "'"; }

std::string joined(const std::string& prefix, const std::string& name) {
  return prefix.empty() ? name : prefix + "." + name;
}

/// The bias that belongs to the rows of a weight: bias for weight, bias_hh_l0 for weight_hh_l0.
std::string bias_name(const std::string& weight_name) {
  const std::string_view prefix = "weight";
  return weight_name.starts_with(prefix) ? "bias" + weight_name.substr(prefix.size()) : "";
}

std::vector<SparsityConfig> everything(const nn::Module& model) {
  std::vector<SparsityConfig> config;
  for (const auto& entry : model.named_modules("", /*include_self=*/false)) {
    const auto* module = entry.value().get();
    const bool is_lstm = dynamic_cast<const nn::LSTMImpl*>(module) != nullptr;
    const bool is_layer = dynamic_cast<const nn::LinearImpl*>(module) != nullptr ||
                          dynamic_cast<const nn::Conv2dImpl*>(module) != nullptr;
    for (const auto& parameter : module->named_parameters(/*recurse=*/false)) {
      if ((is_layer && parameter.key() == "weight") || (is_lstm && parameter.key().starts_with("weight_"))) {
        config.push_back({.tensor_fqn = entry.key() + "." + parameter.key()});
      }
    }
  }
  return config;
}

SparsityGroup group_of(const torch::OrderedDict<std::string, std::shared_ptr<nn::Module>>& modules,
                       const SparsityConfig& config, const SparsityDefaults& defaults) {
  SparsityGroup group{.tensor_fqn = config.tensor_fqn,
                      .sparsity_level = config.sparsity_level.value_or(defaults.sparsity_level),
                      .prune_bias = config.prune_bias.value_or(defaults.prune_bias)};
  const auto dot = config.tensor_fqn.rfind('.');
  group.module_fqn = dot == std::string::npos ? "" : config.tensor_fqn.substr(0, dot);
  group.tensor_name = dot == std::string::npos ? config.tensor_fqn : config.tensor_fqn.substr(dot + 1);
  const auto* module = modules.find(group.module_fqn);
  if (module == nullptr) {
    return group;
  }
  group.module = *module;
  const auto parameters = group.module->named_parameters(/*recurse=*/false);
  if (const auto* weight = parameters.find(group.tensor_name)) {
    group.weight = *weight;
  }
  if (const auto* bias = parameters.find(bias_name(group.tensor_name)); bias != nullptr && group.prune_bias) {
    group.bias = *bias;
  }
  return group;
}

void check_maskable(const SparsityGroup& group, const at::Tensor& mask) {
  const auto& weight = group.weight;
  TORCH_CHECK(weight.is_floating_point() && weight.dim() > 0, "'", group.tensor_fqn,
              "' cannot be masked: only floating tensors with rows can, got ", weight.scalar_type(), " of shape ",
              weight.sizes());
  for (const auto& parameter : {weight, group.bias}) {
    TORCH_CHECK(!ParameterMask::on(parameter), "'", group.tensor_fqn, "' or its bias has a mask already");
  }
  const bool fits = !mask.defined() || (mask.scalar_type() == at::kBool && mask.sizes() == weight.sizes().slice(0, 1));
  TORCH_CHECK(fits, "'", group.tensor_fqn, "': its mask must be bool of shape [", weight.size(0), "], got ",
              mask.scalar_type(), " of shape ", mask.sizes());
}

void check_groups(const std::vector<SparsityGroup>& groups, const std::vector<SparsityConfig>& config) {
  std::string unknown;
  for (const auto& group : groups) {
    if (!group.weight.defined()) {
      add_name(unknown, group.tensor_fqn);
    }
  }
  TORCH_CHECK(unknown.empty(), "the model has no parameter named ", unknown);
  std::map<const void*, std::string> seen;
  for (size_t i = 0; i < groups.size(); ++i) {
    check_maskable(groups[i], config[i].mask);
    for (const auto& parameter : {groups[i].weight, groups[i].bias}) {
      const auto [first, is_new] = seen.emplace(parameter.unsafeGetTensorImpl(), groups[i].tensor_fqn);
      TORCH_CHECK(is_new || !parameter.defined(), "'", groups[i].tensor_fqn,
                  "' or its bias is the same parameter as in '", first->second, "'; it can be masked once");
    }
  }
}

FakeStructuredSparsity sparsity_on(const at::Tensor& parameter, const std::string& name) {
  const auto found = FakeStructuredSparsity::on(parameter);
  TORCH_CHECK(found, "the mask of '", name, "' was taken off by something else than its sparsifier");
  return *found;
}

FakeStructuredSparsity sparsity_of(const SparsityGroup& group) { return sparsity_on(group.weight, group.tensor_fqn); }

std::string bias_fqn(const SparsityGroup& group) { return joined(group.module_fqn, bias_name(group.tensor_name)); }

/// Names that a sparsifier's state must have, and names it may have where a mask hides something.
struct StateNames {
  std::vector<std::string> required, optional;
};

StateNames state_names(const std::vector<SparsityGroup>& groups) {
  StateNames names;
  for (const auto& group : groups) {
    for (const char* field : {".mask", ".sparsity_level", ".prune_bias"}) {
      names.required.push_back(group.tensor_fqn + field);
    }
    names.optional.push_back(group.tensor_fqn + ".hidden");
    names.optional.push_back(bias_fqn(group) + ".hidden");
  }
  return names;
}

void check_names(const std::vector<SparsityGroup>& groups, const StateDict& state) {
  const auto names = state_names(groups);
  const auto holds = [](const std::vector<std::string>& list, const std::string& name) {
    return std::find(list.begin(), list.end(), name) != list.end();
  };
  IncompatibleKeys keys;
  for (const auto& name : names.required) {
    if (!state.contains(name)) {
      keys.missing.push_back(name);
    }
  }
  for (const auto& entry : state) {
    if (!holds(names.required, entry.key()) && !holds(names.optional, entry.key())) {
      keys.unexpected.push_back(entry.key());
    }
  }
  TORCH_CHECK(keys.empty(), "the state does not fit the sparsifier's tensors; ", keys.to_string());
}

void check_values(const SparsityGroup& group, const StateDict& state) {
  const auto& mask = state[group.tensor_fqn + ".mask"];
  TORCH_CHECK(mask.scalar_type() == at::kBool && mask.sizes() == group.weight.sizes().slice(0, 1), "'",
              group.tensor_fqn, ".mask' must be bool of shape [", group.weight.size(0), "], got ", mask.scalar_type(),
              " of shape ", mask.sizes());
  for (const char* field : {".sparsity_level", ".prune_bias"}) {
    const auto& value = state[group.tensor_fqn + field];
    TORCH_CHECK(value.numel() == 1, "'", group.tensor_fqn, field, "' must be one number, got shape ", value.sizes());
  }
  const bool prune_bias = state[group.tensor_fqn + ".prune_bias"].item<bool>();
  TORCH_CHECK(prune_bias == group.prune_bias, "'", group.tensor_fqn, "' was prepared with prune_bias ",
              group.prune_bias, ", the state has ", prune_bias);
  for (const auto& [name, parameter] :
       {std::pair{group.tensor_fqn, group.weight}, std::pair{bias_fqn(group), group.bias}}) {
    const auto* hidden = state.find(name + ".hidden");
    TORCH_CHECK(hidden == nullptr || (parameter.defined() && hidden->sizes() == parameter.sizes()), "'", name,
                ".hidden' must have the shape of the masked parameter, got ",
                hidden != nullptr ? hidden->sizes() : at::IntArrayRef());
  }
}

}  // namespace

BaseStructuredSparsifier::BaseStructuredSparsifier(SparsityDefaults defaults) : defaults_(defaults) {}

void BaseStructuredSparsifier::prepare(std::shared_ptr<nn::Module> model, const std::vector<SparsityConfig>& config) {
  TORCH_CHECK(model != nullptr, "prepare needs a model");
  TORCH_CHECK(groups_.empty(), "the sparsifier has prepared a model already; prune or squash_mask ends that");
  const auto& wanted = config.empty() ? everything(*model) : config;
  TORCH_CHECK(!wanted.empty(), "the model has no Linear, Conv2d or LSTM to prune");
  const auto modules = model->named_modules();
  std::vector<SparsityGroup> groups;
  for (const auto& entry : wanted) {
    groups.push_back(group_of(modules, entry, defaults_));
  }
  check_groups(groups, wanted);

  for (size_t i = 0; i < groups.size(); ++i) {
    const FakeStructuredSparsity on_weight(groups[i].weight, wanted[i].mask);
    if (groups[i].bias.defined()) {
      const FakeStructuredSparsity on_bias(groups[i].bias, wanted[i].mask);
    }
  }
  model_ = std::move(model);
  groups_ = std::move(groups);
}

void BaseStructuredSparsifier::set_mask(const SparsityGroup& group, const at::Tensor& mask) {
  sparsity_of(group).set_mask(mask);
  if (group.bias.defined()) {
    sparsity_on(group.bias, bias_fqn(group)).set_mask(mask);
  }
}

at::Tensor BaseStructuredSparsifier::mask(const std::string& tensor_fqn) const {
  for (const auto& group : groups_) {
    if (group.tensor_fqn == tensor_fqn) {
      return sparsity_of(group).mask();
    }
  }
  TORCH_CHECK(false, "the sparsifier has no mask of '", tensor_fqn, "'");
}

void BaseStructuredSparsifier::step() {
  if (!enable_mask_update) {
    return;
  }
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> masks;
  for (const auto& group : groups_) {
    masks.push_back(update_mask(group, group.weight.detach(), sparsity_of(group).mask()));
  }
  for (size_t i = 0; i < groups_.size(); ++i) {
    set_mask(groups_[i], masks[i]);
  }
}

void BaseStructuredSparsifier::squash_mask() {
  for (const auto& group : groups_) {
    for (const auto& parameter : {group.weight, group.bias}) {
      if (auto mask = ParameterMask::on(parameter)) {
        mask->remove();
      }
    }
  }
  groups_.clear();
}

PrunedParameters BaseStructuredSparsifier::prune(const std::vector<Chain>& chains) {
  if (groups_.empty()) {
    return {};
  }
  std::vector<LayerMasks> layers;
  for (const auto& group : groups_) {
    auto known = std::find_if(layers.begin(), layers.end(),
                              [&](const LayerMasks& other) { return other.layer == group.module_fqn; });
    if (known == layers.end()) {
      known = layers.insert(known, {.layer = group.module_fqn, .prune_bias = group.prune_bias});
    }
    known->keep[group.tensor_name] = sparsity_of(group).mask();
  }
  auto pruned = prune_layers(*model_, chains.empty() ? sequential_chains(*model_) : chains, layers);
  squash_mask();
  return pruned;
}

StateDict BaseStructuredSparsifier::state_dict() const {
  StateDict state;
  for (const auto& group : groups_) {
    const auto sparsity = sparsity_of(group);
    const auto mask = sparsity.mask();
    state.insert(group.tensor_fqn + ".mask", mask);
    state.insert(group.tensor_fqn + ".sparsity_level", at::scalar_tensor(group.sparsity_level, at::kDouble));
    state.insert(group.tensor_fqn + ".prune_bias", at::scalar_tensor(group.prune_bias, at::kBool));
    if (mask.all().item<bool>()) {
      continue;
    }
    state.insert(group.tensor_fqn + ".hidden", sparsity.hidden());
    if (group.bias.defined()) {
      state.insert(bias_fqn(group) + ".hidden", sparsity_on(group.bias, bias_fqn(group)).hidden());
    }
  }
  return state;
}

void BaseStructuredSparsifier::load_state_dict(const StateDict& state) {
  check_names(groups_, state);
  for (const auto& group : groups_) {
    check_values(group, state);
  }
  for (auto& group : groups_) {
    group.sparsity_level = state[group.tensor_fqn + ".sparsity_level"].item<double>();
    set_mask(group, state[group.tensor_fqn + ".mask"].to(group.weight.device()));
    if (const auto* hidden = state.find(group.tensor_fqn + ".hidden")) {
      sparsity_of(group).set_hidden(*hidden);
    }
    if (const auto* hidden = state.find(bias_fqn(group) + ".hidden")) {
      sparsity_on(group.bias, bias_fqn(group)).set_hidden(*hidden);
    }
  }
}

}  // namespace transformers
