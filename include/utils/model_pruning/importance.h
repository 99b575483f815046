#pragma once

#include <transformers/export.h>
#include <transformers/utils/model_pruning/pruning_plan.h>

#include <map>
#include <vector>

namespace TRANSFORMERS_API transformers {

/// The kinds of parts that are scored and removed as a whole.
enum class PrunablePart {
  kHeads,        // single query heads, the same number from each key/value head's group
  kGroups,       // key/value heads with their query heads; for GPT-J: heads
  kChannels,     // MLP channels
  kLayers,       // whole layers
  kHiddenUnits,  // coordinates of the hidden states, in everything that reads or writes them
};

enum class PruningCriterion {
  kL1,          // sum of |w| over all matrices that a part involves
  kL2,          // root of the sum of w²
  kActivation,  // mean activation on calibration tokens, see `importance`
  kTaylor,      // sum of |w · ∂loss/∂w| over the same matrices, the loss summed over the calibration batches
  kRandom,      // uniform in [0, 1)
};

struct ImportanceOptions {
  PruningCriterion criterion = PruningCriterion::kL2;
  /// Token ids, int64 [batch, seq] each; kActivation and kTaylor need them.
  std::vector<at::Tensor> calibration{};
  /// Seed of kRandom.
  uint64_t seed = 0;
};

/// The importance of each part, fp64: one tensor per layer ([heads], [key/value heads] or [channels] that it has now),
/// or a single one for kLayers [layers] and kHiddenUnits [hidden]. Does not change the model.
///
/// Activations are means over tokens: of |x| at the input of the MLP's output layer (channels); of the norm of a head's
/// or group's context (heads, groups); of |x| at what reads the hidden states after their norms (hidden units), all
/// three as in Minitron; of 1 − cos(input, output) (layers), ShortGPT's block influence. Taylor scores need a causal
/// LM, whose labels are the ids.
std::vector<at::Tensor> importance(PreTrainedModel& model, PrunablePart part, const ImportanceOptions& options = {});

struct PruningRequest {
  /// The share of each kind to remove, in [0, 1): the floor(share · number) least important parts; of two equal ones,
  /// the one with the lower number first. For kHeads: the share of each key/value head's group.
  std::map<PrunablePart, double> shares{};
  /// Choose among all layers together, comparing raw scores, and keep at least the best part of each layer; false:
  /// remove the same share of each layer. For kGroups and kChannels. Layers then differ, which transformers' config
  /// cannot express.
  bool global = false;
  ImportanceOptions importance{};
};

/// The plan that removes the least important parts.
PruningPlan plan_pruning(PreTrainedModel& model, const PruningRequest& request);

}  // namespace transformers
