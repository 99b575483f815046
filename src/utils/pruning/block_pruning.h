#pragma once

#include <transformers/utils/pruning/patterns.h>

#include <map>

namespace transformers {

/// The masks of one layer by the names of its weights, bool [rows] each.
struct LayerMasks {
  std::string layer{};
  std::map<std::string, at::Tensor> keep{};
  bool prune_bias = true;
};

/// Prunes layers of a model, whose readers the chains tell. Everything is checked before anything changes.
PrunedParameters prune_layers(const torch::nn::Module& model, const std::vector<Chain>& chains,
                              const std::vector<LayerMasks>& layers);

}  // namespace transformers
