#include "utils/model_pruning/parts.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace transformers::model_pruning {
namespace {

Share rows(const Linear& layer, int64_t unit) { return {layer->weight, 0, unit, layer}; }
Share columns(const Linear& layer, int64_t unit) { return {layer->weight, 1, unit, layer}; }

std::vector<Share> head_shares(const LayerStructure& layer, int64_t head_dim) {
  std::vector<Share> shares{rows(layer.query, head_dim), columns(layer.attention_output, head_dim)};
  if (layer.query->weight.size(0) == layer.key->weight.size(0)) {
    shares.push_back(rows(layer.key, head_dim));
    shares.push_back(rows(layer.value, head_dim));
  }
  return shares;
}

std::vector<Share> group_shares(const LayerStructure& layer, int64_t head_dim) {
  const auto group = layer.query->weight.size(0) / layer.key->weight.size(0) * head_dim;
  return {rows(layer.query, group), columns(layer.attention_output, group), rows(layer.key, head_dim),
          rows(layer.value, head_dim)};
}

std::vector<Share> channel_shares(const LayerStructure& layer) {
  std::vector<Share> shares{columns(layer.mlp_output, 1)};
  for (const auto& input : layer.mlp_inputs) {
    shares.push_back(rows(input, 1));
  }
  return shares;
}

/// The matrices of the hidden units; with `whole_layer` each matrix is one part.
std::vector<Share> stream_shares(const LayerStructure& layer, bool whole_layer) {
  std::vector<Share> shares{columns(layer.query, 1), columns(layer.key, 1), columns(layer.value, 1),
                            rows(layer.attention_output, 1), rows(layer.mlp_output, 1)};
  for (const auto& input : layer.mlp_inputs) {
    shares.push_back(columns(input, 1));
  }
  for (auto& share : shares) {
    share.unit = whole_layer ? share.weight.size(share.dim) : 1;
  }
  return shares;
}

std::vector<Share> hidden_shares(PreTrainedModel& model, const ModelStructure& structure) {
  const auto embeddings = model.get_input_embeddings()->weight;
  std::vector<Share> all{{embeddings, 1, 1}};
  for (const auto& layer : structure.layers) {
    const auto of_layer = stream_shares(layer, /*whole_layer=*/false);
    all.insert(all.end(), of_layer.begin(), of_layer.end());
  }
  for (const auto& head : structure.heads) {
    if (!head->weight.is_same(embeddings)) {
      all.push_back(columns(head, 1));
    }
  }
  return all;
}

}  // namespace

std::vector<std::vector<Share>> shares(PreTrainedModel& model, PrunablePart part) {
  const auto structure = model.structure();
  if (part == PrunablePart::kHiddenUnits) {
    return {hidden_shares(model, structure)};
  }
  const auto head_dim = model.config().sizes().head_dim;
  std::vector<std::vector<Share>> by_layer;
  for (const auto& layer : structure.layers) {
    by_layer.push_back(part == PrunablePart::kHeads      ? head_shares(layer, head_dim)
                       : part == PrunablePart::kGroups   ? group_shares(layer, head_dim)
                       : part == PrunablePart::kChannels ? channel_shares(layer)
                                                         : stream_shares(layer, /*whole_layer=*/true));
  }
  return by_layer;
}

at::Tensor features(const std::vector<int64_t>& parts, int64_t unit) {
  const auto first = at::tensor(parts, at::kLong).unsqueeze(1) * unit;
  return (first + at::arange(unit, at::kLong)).flatten();
}

std::vector<int64_t> all_but(const std::vector<int64_t>& gone, int64_t size) {
  std::vector<bool> is_gone(static_cast<size_t>(size), false);
  for (const auto number : gone) {
    is_gone[static_cast<size_t>(number)] = true;
  }
  std::vector<int64_t> left;
  for (int64_t number = 0; number < size; ++number) {
    if (!is_gone[static_cast<size_t>(number)]) {
      left.push_back(number);
    }
  }
  return left;
}

std::vector<int64_t> present_heads(const PretrainedConfig& config, int64_t layer, const std::vector<int64_t>& heads) {
  const auto found = config.pruned_heads.find(layer);
  std::vector<int64_t> places;
  for (const auto head : heads) {
    const auto below = found == config.pruned_heads.end() ? 0
                                                          : std::count_if(found->second.begin(), found->second.end(),
                                                                          [&](int64_t gone) { return gone < head; });
    places.push_back(head - below);
  }
  return places;
}

}  // namespace transformers::model_pruning
