#pragma once

#include <transformers/export.h>
#include <transformers/utils/nn/state_dict.h>
#include <transformers/utils/pruning/fake_structured_sparsity.h>
#include <transformers/utils/pruning/patterns.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace TRANSFORMERS_API transformers {

/// What a tensor's config leaves out.
struct SparsityDefaults {
  /// Fraction of rows to hide.
  double sparsity_level = 0.5;
  /// Whether a row's bias is hidden with it; false keeps it until the row is pruned, then moves it to the next layer.
  bool prune_bias = true;
};

/// One tensor to mask.
struct SparsityConfig {
  /// Its name in the model: "0.weight", "lstm.weight_hh_l0".
  std::string tensor_fqn{};
  std::optional<double> sparsity_level{};
  std::optional<bool> prune_bias{};
  /// bool [rows] to begin with; undefined: nothing is hidden yet.
  at::Tensor mask{};
};

/// A tensor that is masked.
struct SparsityGroup {
  std::string tensor_fqn{};
  std::string module_fqn{};
  std::string tensor_name{};
  std::shared_ptr<torch::nn::Module> module{};
  at::Tensor weight{};
  at::Tensor bias{};  // undefined unless it is masked with the weight
  double sparsity_level = 0.5;
  bool prune_bias = true;
};

/// Structured pruning in the order prepare, step (as often as training wants), prune. Mirrors
/// `BaseStructuredSparsifier` of torch.ao.pruning 2.11; docs/pruning.md lists the deviations. A class that derives from
/// it says which rows go.
class BaseStructuredSparsifier {
 public:
  explicit BaseStructuredSparsifier(SparsityDefaults defaults = {});
  virtual ~BaseStructuredSparsifier() = default;
  BaseStructuredSparsifier(const BaseStructuredSparsifier&) = delete;
  BaseStructuredSparsifier& operator=(const BaseStructuredSparsifier&) = delete;

  /// Puts masks on the tensors of `config`, or on the weights of every Linear and Conv2d and all weights of every LSTM
  /// when it is empty. Throws, with all of them, for names the model does not have, and for a tensor given twice or
  /// masked already. The masks stay on the model when the sparsifier goes.
  void prepare(std::shared_ptr<torch::nn::Module> model, const std::vector<SparsityConfig>& config = {});

  /// Updates every mask; nothing while `enable_mask_update` is false.
  void step();

  /// Takes the masks off and leaves hidden entries zero: shapes stay. The sparsifier can prepare again.
  void squash_mask();

  /// Takes hidden rows out of the model, with what reads them (prune_functions.h), and the masks off. What reads a
  /// layer is told by `chains`, or when there are none by `sequential_chains`. Everything is checked before anything
  /// changes. Give the result to `update_optimizer` for each optimizer of the model. The sparsifier can prepare again.
  PrunedParameters prune(const std::vector<Chain>& chains = {});

  /// Masks, hidden values and settings, by names that begin with the tensor's: for `save_safetensors`. The values that
  /// masks show are the model's.
  StateDict state_dict() const;
  /// Takes masks, hidden values and levels of a sparsifier that was prepared for the same tensors.
  void load_state_dict(const StateDict& state);

  const std::vector<SparsityGroup>& groups() const { return groups_; }
  /// bool [rows] of one of the groups.
  at::Tensor mask(const std::string& tensor_fqn) const;

  bool enable_mask_update = true;

 protected:
  /// The new mask from the masked weight [rows, ...] and the present mask, bool [rows].
  virtual at::Tensor update_mask(const SparsityGroup& group, const at::Tensor& weight,
                                 const at::Tensor& mask) const = 0;

 private:
  void set_mask(const SparsityGroup& group, const at::Tensor& mask);

  SparsityDefaults defaults_;
  std::shared_ptr<torch::nn::Module> model_;
  std::vector<SparsityGroup> groups_;
};

}  // namespace transformers
