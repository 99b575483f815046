#pragma once

#include <transformers/export.h>
#include <transformers/utils/model_pruning/pruning_plan.h>

#include <map>
#include <vector>

namespace TRANSFORMERS_API transformers {

/// What is scored and taken out as one piece.
enum class PrunablePart {
  kHeads,        // single query heads, as many of each key/value head's group
  kGroups,       // key/value heads with their query heads; GPT-J: heads
  kChannels,     // MLP channels
  kLayers,       // whole layers
  kHiddenUnits,  // coordinates of the hidden states in everything that reads or writes them
};

enum class PruningCriterion {
  kL1,          // sum of |w| over all matrices a part touches
  kL2,          // root of the sum of w²
  kActivation,  // on calibration tokens, see `importance`
  kTaylor,      // sum of |w · ∂loss/∂w| over the same matrices, the loss summed over the calibration batches
  kRandom,      // uniform in [0, 1)
};

struct ImportanceOptions {
  PruningCriterion criterion = PruningCriterion::kL2;
  /// Token ids, int64 [batch, seq] each; kActivation and kTaylor need them.
  std::vector<at::Tensor> calibration{};
  /// Of kRandom.
  uint64_t seed = 0;
};

/// How much each part matters: fp64, a tensor a layer ([heads], [key/value heads], [channels] it has now), or a single
/// one for kLayers [layers] and kHiddenUnits [hidden]. The model is left as it was.
///
/// Activations are means over tokens: of |x| at the input of the MLP's output layer (channels); of the norm of a head's
/// or group's context (heads, groups); of |x| at what reads the hidden states after their norms (hidden units), all
/// three as in Minitron; of 1 − cos(input, output) (layers), ShortGPT's block influence. Taylor scores need a causal
/// LM, whose labels are the ids.
std::vector<at::Tensor> importance(PreTrainedModel& model, PrunablePart part, const ImportanceOptions& options = {});

struct PruningRequest {
  /// The share of each kind that goes, in [0, 1): floor(share · number) of the least important, the lower number first
  /// where two are equal. kHeads: of each key/value head's group.
  std::map<PrunablePart, double> shares{};
  /// Choose among all layers together, by the scores as they are, and leave each at least its best; false: the same
  /// share of each layer. For kGroups and kChannels; layers then differ, which transformers' config cannot say.
  bool global = false;
  ImportanceOptions importance{};
};

/// The plan that takes out what matters least.
PruningPlan plan_pruning(PreTrainedModel& model, const PruningRequest& request);

}  // namespace transformers
