#include <ATen/ATen.h>
#include <transformers/utils/model_pruning/importance.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "utils/model_pruning/parts.h"

namespace transformers {
namespace {

using namespace model_pruning;
using Numbers = std::vector<int64_t>;

int64_t count_of(double share, int64_t parts) {
  return static_cast<int64_t>(std::floor(share * static_cast<double>(parts)));
}

/// The numbers of the `count` lowest scores, in ascending order; of equal scores the first is chosen.
Numbers lowest(const at::Tensor& scores, int64_t count) {
  const auto order = at::argsort(scores, /*stable=*/true).narrow(0, 0, count).sort();
  const auto places = std::get<0>(order).contiguous();
  return {places.const_data_ptr<int64_t>(), places.const_data_ptr<int64_t>() + count};
}

/// The lowest scores of each group, the same number from every group.
Numbers lowest_by_group(const at::Tensor& scores, double share, int64_t group_size) {
  Numbers heads;
  for (int64_t first = 0; first < scores.size(0); first += group_size) {
    for (const auto place : lowest(scores.narrow(0, first, group_size), count_of(share, group_size))) {
      heads.push_back(first + place);
    }
  }
  return heads;
}

/// The lowest scores of all layers together; the best part of each layer is kept.
std::vector<Numbers> lowest_of_all(const std::vector<at::Tensor>& scores, double share) {
  std::vector<at::Tensor> guarded;
  Numbers first{0};
  for (const auto& score : scores) {
    guarded.push_back(score.clone());
    guarded.back()[score.argmax().item<int64_t>()] = std::numeric_limits<double>::infinity();
    first.push_back(first.back() + score.size(0));
  }
  const auto count = std::min(count_of(share, first.back()), first.back() - static_cast<int64_t>(scores.size()));
  std::vector<Numbers> chosen(scores.size());
  for (const auto place : lowest(at::cat(guarded), count)) {
    const auto layer = static_cast<size_t>(std::upper_bound(first.begin(), first.end(), place) - first.begin()) - 1;
    chosen[layer].push_back(place - first[layer]);
  }
  return chosen;
}

/// The query heads of runs of `size` consecutive remaining heads, by their numbers before any pruning.
Numbers heads_at(const PretrainedConfig& config, int64_t layer, const Numbers& runs, int64_t size) {
  const auto pruned = config.pruned_heads.find(layer);
  const auto left =
      all_but(pruned == config.pruned_heads.end() ? Numbers() : pruned->second, config.sizes().num_attention_heads);
  Numbers heads;
  for (const auto run : runs) {
    const auto begin = left.begin() + run * size;
    heads.insert(heads.end(), begin, begin + size);
  }
  return heads;
}

void check(const PruningRequest& request) {
  TORCH_CHECK(!request.shares.contains(PrunablePart::kHeads) || !request.shares.contains(PrunablePart::kGroups),
              "heads are taken out singly or by groups, not both in one plan");
  for (const auto& [part, share] : request.shares) {
    TORCH_CHECK(share >= 0 && share < 1, "the share that goes must be in [0, 1), got ", share);
    const bool by_layer = part == PrunablePart::kGroups || part == PrunablePart::kChannels;
    TORCH_CHECK(!request.global || by_layer, "only groups and channels are chosen among all layers together");
  }
}

std::vector<Numbers> chosen_by_layer(const PruningRequest& request, const std::vector<at::Tensor>& scores,
                                     double share) {
  if (request.global) {
    return lowest_of_all(scores, share);
  }
  std::vector<Numbers> chosen;
  for (const auto& score : scores) {
    chosen.push_back(lowest(score, count_of(share, score.size(0))));
  }
  return chosen;
}

void add_heads(PruningPlan& plan, const PretrainedConfig& config, const PruningRequest& request, PrunablePart part,
               const std::vector<at::Tensor>& scores) {
  const auto share = request.shares.at(part);
  const bool in_groups = part == PrunablePart::kGroups;
  const auto groups = in_groups ? chosen_by_layer(request, scores, share) : std::vector<Numbers>();
  for (size_t i = 0; i < scores.size(); ++i) {
    const auto group_size = plan.model.heads[i] / plan.model.key_value_heads[i];
    const auto places =
        in_groups ? groups[i] : lowest_by_group(scores[i], share, group_size == 1 ? scores[i].size(0) : group_size);
    if (!places.empty()) {
      const auto layer = static_cast<int64_t>(i);
      plan.heads[layer] = heads_at(config, layer, places, in_groups ? group_size : 1);
    }
  }
}

void add_channels(PruningPlan& plan, const std::vector<Numbers>& chosen) {
  for (size_t i = 0; i < chosen.size(); ++i) {
    if (!chosen[i].empty()) {
      plan.channels[static_cast<int64_t>(i)] = chosen[i];
    }
  }
}

}  // namespace

PruningPlan plan_pruning(PreTrainedModel& model, const PruningRequest& request) {
  check(request);
  model.check_prunable();
  auto plan = PruningPlan::for_model(model);
  for (const auto& [part, share] : request.shares) {
    const auto scores = importance(model, part, request.importance);
    switch (part) {
      case PrunablePart::kHeads:
      case PrunablePart::kGroups:
        add_heads(plan, model.config(), request, part, scores);
        break;
      case PrunablePart::kChannels:
        add_channels(plan, chosen_by_layer(request, scores, share));
        break;
      case PrunablePart::kLayers:
        plan.layers = lowest(scores.front(), count_of(share, scores.front().size(0)));
        break;
      case PrunablePart::kHiddenUnits:
        plan.hidden_units = lowest(scores.front(), count_of(share, scores.front().size(0)));
        break;
    }
  }
  return plan;
}

}  // namespace transformers
