// The part of a config that describes pruned layers. `pruned_heads` is the key of configuration_utils.py, transformers
// 4.37.2; 5.x ignores it. `intermediate_sizes` is a key of this library.
#include <c10/util/Exception.h>
#include <transformers/utils/configuration/configuration_utils.h>

#include <algorithm>
#include <array>
#include <functional>
#include <sstream>

namespace transformers {
namespace {

const std::vector<int64_t>& heads_of(const HeadsByLayer& heads, int64_t layer) {
  static const std::vector<int64_t> none;
  const auto found = heads.find(layer);
  return found == heads.end() ? none : found->second;
}

/// The number of removed query heads in the group of each key/value head that lost one.
std::map<int64_t, int64_t> losses_by_group(const std::vector<int64_t>& pruned, int64_t group_size) {
  std::map<int64_t, int64_t> losses;
  for (const auto head : pruned) {
    ++losses[head / group_size];
  }
  return losses;
}

void check_heads(int64_t layer, const std::vector<int64_t>& pruned, const ModelSizes& sizes) {
  const auto heads = sizes.num_attention_heads;
  TORCH_CHECK(!pruned.empty() && std::is_sorted(pruned.begin(), pruned.end()), "pruned_heads: layer ", layer,
              ": the heads must be listed in ascending order, at least one");
  TORCH_CHECK(pruned.front() >= 0 && pruned.back() < heads, "pruned_heads: layer ", layer, ": heads must be in [0, ",
              heads, "), got ", pruned.front() < 0 ? pruned.front() : pruned.back());
  const auto twice = std::adjacent_find(pruned.begin(), pruned.end());
  TORCH_CHECK(twice == pruned.end(), "pruned_heads: layer ", layer, ": head ", *twice, " is listed twice");
  TORCH_CHECK(static_cast<int64_t>(pruned.size()) < heads, "pruned_heads: layer ", layer, ": all ", heads,
              " heads are pruned, at least one must be left");
}

/// Each remaining key/value head must serve the same number of query heads.
void check_groups(int64_t layer, const std::vector<int64_t>& pruned, const ModelSizes& sizes) {
  const auto group_size = sizes.num_attention_heads / sizes.num_key_value_heads;
  const auto losses = losses_by_group(pruned, group_size);
  int64_t least = static_cast<int64_t>(losses.size()) < sizes.num_key_value_heads ? group_size : 0;
  int64_t most = least;
  for (const auto& [group, lost] : losses) {
    if (lost < group_size) {
      least = least == 0 ? group_size - lost : std::min(least, group_size - lost);
      most = std::max(most, group_size - lost);
    }
  }
  TORCH_CHECK(least == most, "pruned_heads: layer ", layer, ": each key/value head that is left must serve as many ",
              "query heads (", group_size, " in a row share one), got ", least, " and ", most,
              "; prune whole groups, or as many heads of every group");
}

template <typename Size>
std::string differing_layers(int64_t layers, const char* what, const Size& size) {
  for (int64_t layer = 1; layer < layers; ++layer) {
    if (size(layer) != size(0)) {
      std::ostringstream reason;
      reason << "transformers has one number of " << what << " for all layers, here layer 0 has " << size(0)
             << " and layer " << layer << " has " << size(layer);
      return reason.str();
    }
  }
  return {};
}

}  // namespace

int64_t PretrainedConfig::num_heads_left(int64_t layer) const {
  return sizes().num_attention_heads - static_cast<int64_t>(heads_of(pruned_heads, layer).size());
}

int64_t PretrainedConfig::num_key_value_heads_left(int64_t layer) const {
  const auto all = sizes();
  const auto group_size = all.num_attention_heads / all.num_key_value_heads;
  const auto losses = losses_by_group(heads_of(pruned_heads, layer), group_size);
  return all.num_key_value_heads -
         std::count_if(losses.begin(), losses.end(), [&](const auto& group) { return group.second == group_size; });
}

int64_t PretrainedConfig::intermediate_size_left(int64_t layer) const {
  return intermediate_sizes.empty() ? sizes().intermediate_size : intermediate_sizes.at(static_cast<size_t>(layer));
}

void PretrainedConfig::set_intermediate_sizes(std::vector<int64_t> widths) {
  TORCH_CHECK(static_cast<int64_t>(widths.size()) == get_num_hidden_layers(),
              "intermediate_sizes must have one width a layer, got ", widths.size(), " for ", get_num_hidden_layers(),
              " layers");
  if (std::adjacent_find(widths.begin(), widths.end(), std::not_equal_to<>()) != widths.end()) {
    intermediate_sizes = std::move(widths);
    return;
  }
  intermediate_sizes.clear();
  auto alike = sizes();
  alike.intermediate_size = widths.front();
  set_sizes(alike);
}

void PretrainedConfig::keep_layers(const std::vector<int64_t>& layers) {
  HeadsByLayer heads;
  std::vector<int64_t> widths;
  for (const auto layer : layers) {
    const auto number = static_cast<int64_t>(widths.size());
    widths.push_back(intermediate_size_left(layer));
    if (const auto found = pruned_heads.find(layer); found != pruned_heads.end()) {
      heads[number] = found->second;
    }
  }
  auto left = sizes();
  left.num_hidden_layers = static_cast<int64_t>(layers.size());
  set_sizes(left);
  pruned_heads = std::move(heads);
  set_intermediate_sizes(std::move(widths));
}

void PretrainedConfig::check_pruning() const {
  const auto all = sizes();
  for (const auto& [layer, heads] : pruned_heads) {
    TORCH_CHECK(layer >= 0 && layer < all.num_hidden_layers, "pruned_heads: layers must be in [0, ",
                all.num_hidden_layers, "), got ", layer);
    check_heads(layer, heads, all);
    check_groups(layer, heads, all);
  }
  if (!intermediate_sizes.empty()) {
    TORCH_CHECK(static_cast<int64_t>(intermediate_sizes.size()) == all.num_hidden_layers,
                "intermediate_sizes must have one width a layer, got ", intermediate_sizes.size(), " for ",
                all.num_hidden_layers, " layers");
    std::vector<std::array<int64_t, 3>> shapes;
    for (const auto width : intermediate_sizes) {
      check_size("intermediate_sizes", width);
      shapes.push_back({1, all.hidden_size, width});
    }
    check_parameter_bytes(shapes);
  }
}

std::string PretrainedConfig::inexpressible() const {
  auto left = sizes();
  const auto layers = left.num_hidden_layers;
  left.num_attention_heads = num_heads_left(0);
  left.num_key_value_heads = num_key_value_heads_left(0);
  left.intermediate_size = intermediate_size_left(0);
  for (const auto& reason :
       {differing_layers(layers, "heads", [&](int64_t layer) { return num_heads_left(layer); }),
        differing_layers(layers, "key/value heads", [&](int64_t layer) { return num_key_value_heads_left(layer); }),
        differing_layers(layers, "MLP channels", [&](int64_t layer) { return intermediate_size_left(layer); })}) {
    if (!reason.empty()) {
      return reason;
    }
  }
  return inexpressible_sizes(left);
}

std::string PretrainedConfig::to_plain_json(ConfigFormat format) const {
  const auto reason = inexpressible();
  TORCH_CHECK(reason.empty(), reason);
  const auto plain = copy();
  auto left = sizes();
  left.num_attention_heads = num_heads_left(0);
  left.num_key_value_heads = num_key_value_heads_left(0);
  left.intermediate_size = intermediate_size_left(0);
  plain->pruned_heads.clear();
  plain->intermediate_sizes.clear();
  plain->set_sizes(left);
  return plain->to_json(format);
}

}  // namespace transformers
