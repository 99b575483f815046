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

/// Defaults for the fields that the config of a tensor leaves unset.
struct SparsityDefaults {
  /// Fraction of rows to mask.
  double sparsity_level = 0.5;
  /// Whether the bias of a masked row is masked too; false keeps it until the row is pruned, and then moves it to the
  /// next layer.
  bool prune_bias = true;
};

/// One tensor to mask.
struct SparsityConfig {
  /// Its name in the model: "0.weight", "lstm.weight_hh_l0".
  std::string tensor_fqn{};
  std::optional<double> sparsity_level{};
  std::optional<bool> prune_bias{};
  /// The initial mask, bool [rows]; undefined: nothing is masked yet.
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

/// Structured pruning in the order prepare, step (as often as training needs), prune. Mirrors
/// `BaseStructuredSparsifier` of torch.ao.pruning 2.11; docs/pruning.md lists the deviations. Derived classes decide
/// which rows are masked.
class BaseStructuredSparsifier {
 public:
  explicit BaseStructuredSparsifier(SparsityDefaults defaults = {});
  virtual ~BaseStructuredSparsifier() = default;
  BaseStructuredSparsifier(const BaseStructuredSparsifier&) = delete;
  BaseStructuredSparsifier& operator=(const BaseStructuredSparsifier&) = delete;

  /// Puts masks on the tensors of `config`, or on the weights of every Linear and Conv2d and all weights of every LSTM
  /// when it is empty. Throws, naming all of them, for names that the model does not have, and for a tensor that is
  /// listed twice or masked already. The masks stay on the model when the sparsifier is destroyed.
  void prepare(std::shared_ptr<torch::nn::Module> model, const std::vector<SparsityConfig>& config = {});

  /// Updates every mask; does nothing while `enable_mask_update` is false.
  void step();

  /// Removes the masks and leaves masked entries zero; shapes do not change. The sparsifier can prepare again.
  void squash_mask();

  /// Removes masked rows from the model together with the inputs that read them (prune_functions.h), and removes the
  /// masks. `chains` tell which layer reads which; if empty, `sequential_chains` is used. Everything is checked before
  /// anything changes. Pass the result to `update_optimizer` for each optimizer of the model. The sparsifier can
  /// prepare again.
  PrunedParameters prune(const std::vector<Chain>& chains = {});

  /// Masks, hidden values and settings, by names that begin with the tensor's name, for `save_safetensors`. The values
  /// that are not masked belong to the model's state.
  StateDict state_dict() const;
  /// Restores masks, hidden values and levels of a sparsifier that was prepared for the same tensors.
  void load_state_dict(const StateDict& state);

  const std::vector<SparsityGroup>& groups() const { return groups_; }
  /// The mask of one of the groups, bool [rows].
  at::Tensor mask(const std::string& tensor_fqn) const;

  bool enable_mask_update = true;

 protected:
  /// Computes the new mask, bool [rows], from the masked weight [rows, ...] and the present mask, bool [rows].
  virtual at::Tensor update_mask(const SparsityGroup& group, const at::Tensor& weight,
                                 const at::Tensor& mask) const = 0;

 private:
  void set_mask(const SparsityGroup& group, const at::Tensor& mask);

  SparsityDefaults defaults_;
  std::shared_ptr<torch::nn::Module> model_;
  std::vector<SparsityGroup> groups_;
};

}  // namespace transformers
