#include <ATen/ATen.h>
#include <transformers/utils/optim/parameter_groups.h>
#include <transformers/utils/pytorch_utils.h>

#include <algorithm>
#include <regex>
#include <unordered_set>

#include "utils/nn/internal/gradient_norm.h"
#include "utils/optim/named_parameters.h"

namespace transformers {
namespace {

bool is_spared(std::string name) {
  static const std::regex pattern(R"(bias|layernorm|rmsnorm|(^|\.)norm(\.|$)|_norm(\.|$))");
  std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
  return std::regex_search(name, pattern);
}

void collect(const torch::nn::Module& module, const std::string& prefix, std::vector<std::string>& names) {
  if (LayerNormLayers::contains(module)) {
    return;
  }
  for (const auto& item : module.named_parameters(/*recurse=*/false)) {
    if (const auto name = prefix + item.key(); !is_spared(name)) {
      names.push_back(name);
    }
  }
  for (const auto& child : module.named_children()) {
    collect(*child.value(), prefix + child.key() + ".", names);
  }
}

}  // namespace

std::vector<std::pair<std::string, at::Tensor>> named_trainable_parameters(const torch::nn::Module& model) {
  std::vector<std::pair<std::string, at::Tensor>> result;
  std::unordered_set<const void*> seen;
  for (const auto& item : model.named_parameters()) {
    if (item.value().requires_grad() && seen.insert(item.value().unsafeGetTensorImpl()).second) {
      result.emplace_back(item.key(), item.value());
    }
  }
  return result;
}

std::vector<std::string> decay_parameter_names(const torch::nn::Module& model) {
  std::vector<std::string> names;
  collect(model, "", names);
  return names;
}

std::vector<at::Tensor> all_parameters(const torch::optim::Optimizer& optimizer) {
  std::vector<at::Tensor> parameters;
  for (const auto& group : optimizer.param_groups()) {
    parameters.insert(parameters.end(), group.params().begin(), group.params().end());
  }
  return parameters;
}

std::vector<at::Tensor> trainable_parameters(const torch::nn::Module& model) {
  std::vector<at::Tensor> parameters;
  for (auto& [name, parameter] : named_trainable_parameters(model)) {
    parameters.push_back(std::move(parameter));
  }
  return parameters;
}

std::pair<std::vector<at::Tensor>, std::vector<at::Tensor>> split_by_decay(const torch::nn::Module& model) {
  const auto names = decay_parameter_names(model);
  const std::unordered_set<std::string> decayed(names.begin(), names.end());
  std::pair<std::vector<at::Tensor>, std::vector<at::Tensor>> result;
  for (auto& [name, parameter] : named_trainable_parameters(model)) {
    (decayed.contains(name) ? result.first : result.second).push_back(std::move(parameter));
  }
  return result;
}

at::Tensor clip_grad_norm_(const std::vector<at::Tensor>& parameters, double max_norm) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> grads;
  std::unordered_set<const void*> seen;
  for (const auto& parameter : parameters) {
    if (parameter.grad().defined() && seen.insert(parameter.unsafeGetTensorImpl()).second) {
      grads.push_back(parameter.grad());
    }
  }
  if (grads.empty()) {
    return at::zeros({});
  }
  auto norms = at::_foreach_norm(grads, 2);
  for (auto& norm : norms) {
    norm = norm.to(grads.front().device(), at::kFloat);
  }
  const auto total = at::linalg_vector_norm(at::stack(norms), 2);
  clip_grads_with_norm_(grads, max_norm, total);
  return total;
}

}  // namespace transformers
