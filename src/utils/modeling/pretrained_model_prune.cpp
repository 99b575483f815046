// Mirrors PreTrainedModel.prune_heads of modeling_utils.py, transformers 4.37.2, which neither GPT-J nor LLaMA
// implements there. Deviation: an empty list and a head listed twice are errors.
#include <ATen/ATen.h>
#include <transformers/utils/modeling/base_model.h>
#include <transformers/utils/modeling/model_structure.h>
#include <transformers/utils/pytorch_utils.h>

#include <algorithm>
#include <set>

namespace transformers {
namespace {

using Heads = std::vector<int64_t>;

/// Key/value heads without any remaining query head.
std::set<int64_t> unused_groups(const Heads& pruned, int64_t group_size) {
  std::map<int64_t, int64_t> losses;
  std::set<int64_t> unused;
  for (const auto head : pruned) {
    if (++losses[head / group_size] == group_size) {
      unused.insert(head / group_size);
    }
  }
  return unused;
}

/// The rows of a projection that are kept when the heads of `after` are pruned; those of `before` were removed earlier.
at::Tensor kept_rows(const std::set<int64_t>& before, const std::set<int64_t>& after, int64_t heads, int64_t head_dim) {
  const auto present = heads - static_cast<int64_t>(before.size());
  return find_pruneable_heads_and_indices({after.begin(), after.end()}, present, head_dim, before).second;
}

void narrow_heads(const LayerStructure& layer, const Heads& before, const Heads& after, const ModelSizes& sizes) {
  const auto query_rows = kept_rows({before.begin(), before.end()}, {after.begin(), after.end()},
                                    sizes.num_attention_heads, sizes.head_dim);
  keep_features(layer.query, query_rows, 0);
  keep_features(layer.attention_output, query_rows, 1);
  const auto group_size = sizes.num_attention_heads / sizes.num_key_value_heads;
  const auto key_rows = kept_rows(unused_groups(before, group_size), unused_groups(after, group_size),
                                  sizes.num_key_value_heads, sizes.head_dim);
  keep_features(layer.key, key_rows, 0);
  keep_features(layer.value, key_rows, 0);
}

void check_listed(int64_t layer, Heads heads) {
  TORCH_CHECK(!heads.empty(), "prune_heads: layer ", layer, ": the list of heads is empty");
  std::sort(heads.begin(), heads.end());
  const auto twice = std::adjacent_find(heads.begin(), heads.end());
  TORCH_CHECK(twice == heads.end(), "prune_heads: layer ", layer, ": head ", *twice, " is listed twice");
}

/// The layer must have the size that the config gives for it, or the wrong rows would be kept.
void check_present(int64_t number, const LayerStructure& layer, const PretrainedConfig& config) {
  const auto head_dim = config.sizes().head_dim;
  const auto queries = config.num_heads_left(number) * head_dim,
             keys = config.num_key_value_heads_left(number) * head_dim;
  TORCH_CHECK(layer.query->weight.size(0) == queries && layer.key->weight.size(0) == keys, "prune_heads: layer ",
              number, " has ", layer.query->weight.size(0), " query and ", layer.key->weight.size(0),
              " key features, the config says ", queries, " and ", keys);
}

Heads united(const Heads& first, const Heads& second) {
  std::set<int64_t> all(first.begin(), first.end());
  all.insert(second.begin(), second.end());
  return {all.begin(), all.end()};
}

}  // namespace

void PreTrainedModel::check_prunable() {
  check_unplaced();
  for (const auto& entry : named_modules()) {
    if (const auto* linear = entry.value()->as<LinearImpl>()) {
      check_plain_product(entry.key(), *linear);
    }
  }
}

void PreTrainedModel::prune_heads(const HeadsByLayer& heads_to_prune) {
  check_prunable();
  const auto after = config().copy();
  for (const auto& [layer, heads] : heads_to_prune) {
    check_listed(layer, heads);
    after->pruned_heads[layer] = united(after->pruned_heads[layer], heads);
  }
  after->validate();
  const auto layers = structure().layers;
  for (const auto& [layer, heads] : heads_to_prune) {
    check_present(layer, layers[static_cast<size_t>(layer)], config());
  }
  for (const auto& [layer, heads] : heads_to_prune) {
    auto& pruned = config().pruned_heads[layer];
    narrow_heads(layers[static_cast<size_t>(layer)], pruned, after->pruned_heads[layer], config().sizes());
    pruned = after->pruned_heads[layer];
  }
}

void PreTrainedModel::keep_layers(const std::vector<int64_t>& layers) {
  check_prunable();
  const auto present = config().get_num_hidden_layers();
  TORCH_CHECK(!layers.empty(), "keep_layers: at least one layer must be left");
  for (size_t i = 0; i < layers.size(); ++i) {
    TORCH_CHECK(layers[i] >= 0 && layers[i] < present, "keep_layers: layers must be in [0, ", present, "), got ",
                layers[i]);
    TORCH_CHECK(i == 0 || layers[i - 1] < layers[i], "keep_layers: layers must ascend, got ", layers[i], " after ",
                layers[i - 1]);
  }
  base_model().select_layers(layers);
  config().keep_layers(layers);
}

}  // namespace transformers
