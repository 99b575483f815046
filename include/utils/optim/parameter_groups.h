#pragma once

#include <torch/nn/module.h>
#include <torch/optim/optimizer.h>
#include <transformers/export.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace TRANSFORMERS_API transformers {

/// Names of the parameters to which HF's Trainer applies weight decay: all but those of layer norms (`LayerNormLayers`,
/// and the names layernorm, rmsnorm, norm, …_norm) and those with "bias" in the name. Mirrors
/// `Trainer.get_decay_parameter_names`.
std::vector<std::string> decay_parameter_names(const torch::nn::Module& model);

/// All parameters of an optimizer, group after group.
std::vector<at::Tensor> all_parameters(const torch::optim::Optimizer& optimizer);

/// The trainable parameters, each tied one once.
std::vector<at::Tensor> trainable_parameters(const torch::nn::Module& model);

/// The trainable parameters as (decayed, others).
std::pair<std::vector<at::Tensor>, std::vector<at::Tensor>> split_by_decay(const torch::nn::Module& model);

/// Two groups: decayed parameters with `options`, the others with the same options and weight decay 0. Empty groups are
/// omitted. `Options` is the type of the optimizer's options, e.g. torch::optim::AdamWOptions.
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

/// Scales the gradients so that the 2-norm of all of them together is at most `max_norm`, and returns that norm before
/// scaling; the same values as `torch.nn.utils.clip_grad_norm_`. A `max_norm` of 0 or less only measures. A tensor that
/// is listed twice, such as a tied weight among a module's named parameters, counts once. The norm is a float32 []
/// tensor on the first gradient's device, so that the call does not synchronise with it.
at::Tensor clip_grad_norm_(const std::vector<at::Tensor>& parameters, double max_norm);

}  // namespace transformers
