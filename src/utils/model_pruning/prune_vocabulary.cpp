#include <algorithm>

#include "utils/model_pruning/parts.h"

namespace transformers::model_pruning {
namespace {

bool stays(int64_t id, const std::vector<int64_t>& new_ids) {
  return id < 0 || id >= static_cast<int64_t>(new_ids.size()) || new_ids[static_cast<size_t>(id)] >= 0;
}

/// Ids beyond the vocabulary are unusual but allowed, and remain beyond it.
void renumber(int64_t& id, const std::vector<int64_t>& new_ids) {
  if (id >= 0 && id < static_cast<int64_t>(new_ids.size())) {
    id = new_ids[static_cast<size_t>(id)];
  }
}

void renumber(std::optional<int64_t>& id, const std::vector<int64_t>& new_ids) {
  if (id) {
    renumber(*id, new_ids);
  }
}

void renumber(std::vector<int64_t>& ids, const std::vector<int64_t>& new_ids) {
  std::erase_if(ids, [&](int64_t id) { return !stays(id, new_ids); });
  for (auto& id : ids) {
    renumber(id, new_ids);
  }
}

bool all_stay(const std::vector<int64_t>& ids, const std::vector<int64_t>& new_ids) {
  return std::all_of(ids.begin(), ids.end(), [&](int64_t id) { return stays(id, new_ids); });
}

}  // namespace

void renumber_tokens(GenerationConfig& config, const std::vector<int64_t>& new_ids) {
  renumber(config.pad_token_id, new_ids);
  renumber(config.bos_token_id, new_ids);
  renumber(config.eos_token_id, new_ids);
  renumber(config.forced_bos_token_id, new_ids);
  renumber(config.forced_eos_token_id, new_ids);
  renumber(config.suppress_tokens, new_ids);
  renumber(config.begin_suppress_tokens, new_ids);
  // A text that can no longer be generated needs no ban and no bias.
  std::erase_if(config.bad_words_ids, [&](const auto& word) { return !all_stay(word, new_ids); });
  std::erase_if(config.sequence_bias, [&](const auto& entry) { return !all_stay(entry.first, new_ids); });
  for (auto& word : config.bad_words_ids) {
    renumber(word, new_ids);
  }
  for (auto& [sequence, bias] : config.sequence_bias) {
    renumber(sequence, new_ids);
  }
}

void prune_config(PretrainedConfig& config, const PruningPlan& plan) {
  for (const auto& [layer, heads] : plan.heads) {
    auto& pruned = config.pruned_heads[layer];
    pruned.insert(pruned.end(), heads.begin(), heads.end());
    std::sort(pruned.begin(), pruned.end());
    pruned.erase(std::unique(pruned.begin(), pruned.end()), pruned.end());
  }
  std::vector<int64_t> widths;
  for (int64_t layer = 0; layer < config.get_num_hidden_layers(); ++layer) {
    const auto gone = plan.channels.find(layer);
    widths.push_back(config.intermediate_size_left(layer) -
                     (gone == plan.channels.end() ? 0 : static_cast<int64_t>(gone->second.size())));
  }
  config.set_intermediate_sizes(std::move(widths));
  if (!plan.hidden_units.empty()) {
    auto sizes = config.sizes();
    sizes.hidden_size -= static_cast<int64_t>(plan.hidden_units.size());
    config.set_sizes(sizes);
  }
  if (const auto new_ids = plan.new_token_ids(); !new_ids.empty()) {
    config.vocab_size = static_cast<int64_t>(plan.vocabulary.size());
    renumber(config.pad_token_id, new_ids);
    renumber(config.bos_token_id, new_ids);
    renumber(config.eos_token_id, new_ids);
  }
}

}  // namespace transformers::model_pruning
