#pragma once

#include <torch/nn/module.h>
#include <torch/optim/optimizer.h>
#include <transformers/export.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace TRANSFORMERS_API transformers {

/// Names of the parameters that HF's Trainer decays: all but those of layer norms (`LayerNormLayers`, and the names
/// layernorm, rmsnorm, norm, …_norm) and those with "bias" in the name. Mirrors `Trainer.get_decay_parameter_names`.
std::vector<std::string> decay_parameter_names(const torch::nn::Module& model);

/// Every parameter of an optimizer, group after group.
std::vector<at::Tensor> all_parameters(const torch::optim::Optimizer& optimizer);

/// Trainable parameters, a tied one once.
std::vector<at::Tensor> trainable_parameters(const torch::nn::Module& model);

/// The trainable parameters as (decayed, others).
std::pair<std::vector<at::Tensor>, std::vector<at::Tensor>> split_by_decay(const torch::nn::Module& model);

/// Two groups: decayed parameters with `options` as they are, the others with weight decay 0. An empty group is left
/// out. `Options` are those of the optimizer, e.g. torch::optim::AdamWOptions.
template <typename Options>
std::vector<torch::optim::OptimizerParamGroup> decay_groups(const torch::nn::Module& model, const Options& options) {
  auto [decayed, others] = split_by_decay(model);
  auto without_decay = options;
  without_decay.weight_decay(0);
  std::vector<torch::optim::OptimizerParamGroup> groups;
  if (!decayed.empty()) {
    groups.emplace_back(std::move(decayed), std::make_unique<Options>(options));
  }
  if (!others.empty()) {
    groups.emplace_back(std::move(others), std::make_unique<Options>(without_decay));
  }
  return groups;
}

/// Scales the gradients so that their common 2-norm is at most `max_norm`, and returns that norm before, computed over
/// all tensors at once; the same numbers as `torch.nn.utils.clip_grad_norm_`. A `max_norm` of 0 or less only measures.
/// A tensor that comes twice, such as a tied weight among a module's named parameters, counts once.
/// The norm is a float32 [] tensor on the first gradient's device, so that nothing waits for it.
at::Tensor clip_grad_norm_(const std::vector<at::Tensor>& parameters, double max_norm);

}  // namespace transformers
