#pragma once

/// \file
/// The room utils/model_pruning makes language models smaller by whole parts: heads, MLP channels, layers, hidden units
/// and tokens. importance.h scores the parts and makes a plan, this header carries plans out, and prune_tokenizer.h
/// makes the tokenizer that fits. Masks on single weights, and modules other than language models, are the business of
/// utils/pruning.
///
///     const auto plan = plan_pruning(*model, {.shares = {{PrunablePart::kChannels, 0.25}}});
///     prune_model(*model, plan);
///     model->save_pretrained("smaller");

#include <transformers/export.h>
#include <transformers/utils/modeling/pretrained_model.h>

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace TRANSFORMERS_API transformers {

/// Removing makes a model smaller. Zeroing keeps its sizes, so that transformers' config can express every plan.
enum class PruningMode { kRemove, kZero };

/// The sizes for which a plan was made; its numbers are meaningless for a model of other sizes.
struct PlannedModel {
  std::string model_type{};
  int64_t vocab_size = 0, hidden_size = 0;
  std::vector<int64_t> heads{}, key_value_heads{}, channels{};  // of each layer
};

/// The parts to remove from a model. Layers are numbered as before the removal.
struct PruningPlan {
  PlannedModel model{};
  HeadsByLayer heads{};     // query heads by layer, as `PreTrainedModel::prune_heads` numbers them
  HeadsByLayer channels{};  // MLP channels by layer
  std::vector<int64_t> layers{};
  std::vector<int64_t> hidden_units{};
  std::vector<int64_t> vocabulary{};  // kept tokens, ascending; the position of each is its new id; empty: all are kept

  /// An empty plan for a model.
  static PruningPlan for_model(PreTrainedModel& model);

  bool empty() const;
  /// The new id of each old id, −1 where the token is removed. Empty when all tokens are kept.
  std::vector<int64_t> new_token_ids() const;

  /// Throws, with the expected and the found number, when the plan was made for a model of other sizes, names parts
  /// that the model does not have, holds an empty list or a number twice, would leave nothing of a kind, or removes a
  /// token that the config or the generation config needs. kRemove also throws where the remaining sizes are not a
  /// valid config.
  void check(PreTrainedModel& model, PruningMode mode = PruningMode::kRemove) const;

  /// A readable summary, one line per kind and layer.
  std::string to_string() const;
  std::string to_json() const;
  /// `source` names the text in errors. Strict: unknown keys and wrong types throw.
  static PruningPlan from_json(std::string_view text, const std::string& source = "PruningPlan");
  /// Writes a JSON file, atomically.
  void save(const std::string& path) const;
  static PruningPlan load(const std::string& path);
};

/// Carries out a plan. Throws as `PruningPlan::check` does, before anything is changed.
///
/// kRemove: parameters are replaced by new, smaller ones (norms keep theirs and change the data), with dtype, device,
/// requires_grad and ties as before; an optimizer must be rebuilt. Config, generation config and
/// `config().pruned_heads` are updated. Removing hidden units changes the number of values that norms average, so
/// outputs change even where those units were zero. kZero: rows and columns of the matrices are set to zero; for
/// layers, the matrices that write to the hidden states. A removed token keeps its id; its score becomes 0.
void prune_model(PreTrainedModel& model, const PruningPlan& plan, PruningMode mode = PruningMode::kRemove);

}  // namespace transformers
