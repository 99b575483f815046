#pragma once

#include <transformers/utils/configuration/generation_config.h>
#include <transformers/utils/model_pruning/importance.h>

#include <vector>

namespace transformers::model_pruning {

/// A matrix of which each part of a kind owns a range: part i owns `unit` rows (dim 0) or columns (dim 1) from i · unit
/// on.
struct Share {
  at::Tensor weight;
  int64_t dim = 0, unit = 1;
  Linear layer{nullptr};  // empty for the embeddings

  int64_t parts() const { return weight.size(dim) / unit; }
};

/// The matrices that a kind of part involves: one list per layer, or a single one for hidden units. A tied matrix is
/// listed once.
std::vector<std::vector<Share>> shares(PreTrainedModel& model, PrunablePart part);

/// The rows or columns of these parts in a matrix, int64.
at::Tensor features(const std::vector<int64_t>& parts, int64_t unit);

/// The numbers in [0, size) that are not among `gone`.
std::vector<int64_t> all_but(const std::vector<int64_t>& gone, int64_t size);

/// The positions of these heads, numbered as before any was pruned, among the remaining heads of a layer.
std::vector<int64_t> present_heads(const PretrainedConfig& config, int64_t layer, const std::vector<int64_t>& heads);

/// Changes a config as carrying out the plan changes the model, except for layers.
void prune_config(PretrainedConfig& config, const PruningPlan& plan);

/// Renumbers the token ids of a generation config. Entries of lists that name a removed token are removed.
void renumber_tokens(GenerationConfig& config, const std::vector<int64_t>& new_ids);

}  // namespace transformers::model_pruning
