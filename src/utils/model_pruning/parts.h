#pragma once

#include <transformers/utils/model_pruning/importance.h>
#include <transformers/utils/modeling/generation_config.h>

#include <vector>

namespace transformers::model_pruning {

/// A matrix of which each part of a kind has a stretch: part i has `unit` rows (dim 0) or columns (dim 1) from i · unit
/// on.
struct Share {
  at::Tensor weight;
  int64_t dim = 0, unit = 1;
  Linear layer{nullptr};  // empty for the embeddings

  int64_t parts() const { return weight.size(dim) / unit; }
};

/// The matrices that a kind of part touches: a list a layer, a single one for hidden units. A tied matrix stands there
/// once.
std::vector<std::vector<Share>> shares(PreTrainedModel& model, PrunablePart part);

/// Rows or columns of these parts of a matrix, int64.
at::Tensor features(const std::vector<int64_t>& parts, int64_t unit);

/// The numbers in [0, size) that are not among `gone`.
std::vector<int64_t> all_but(const std::vector<int64_t>& gone, int64_t size);

/// Where these heads, numbered as before any was pruned, stand among those that a layer has left.
std::vector<int64_t> present_heads(const PretrainedConfig& config, int64_t layer, const std::vector<int64_t>& heads);

/// Changes a config as removing what the plan names changes the model, but for layers.
void prune_config(PretrainedConfig& config, const PruningPlan& plan);

/// Token ids of a generation config by the new numbering; lists lose what names a token that goes.
void renumber_tokens(GenerationConfig& config, const std::vector<int64_t>& new_ids);

}  // namespace transformers::model_pruning
