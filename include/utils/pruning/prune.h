#pragma once

/// \file
/// The room utils/pruning prunes torch::nn modules of any kind: masks on single parameters (this header), structured
/// sparsifiers that remove rows together with what reads them (base_structured_sparsifier.h), and the optimizer states
/// that have to follow. Whole language models are made smaller by utils/model_pruning.
///
///     prune::l1_unstructured(*linear, "weight", 0.3);  // masks the 30 % of smallest magnitude
///     train(model);                                    // masked entries get no gradient
///     prune::remove(*linear, "weight");                // makes it permanent

#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>
#include <transformers/export.h>

#include <string>
#include <utility>
#include <variant>
#include <vector>

// Mirrors torch/nn/utils/prune.py, torch 2.11.0: functions that mask a parameter of any module by the importance of its
// entries or channels. As in Python, the module gets the buffer `<name>_mask`, of the parameter's shape and dtype. The
// parameter keeps its name and holds the masked values (parametrization.h), where Python adds `<name>_orig`. Pruning
// again prunes more: fractions refer to the remaining entries, and pruned entries stay pruned.
namespace TRANSFORMERS_API transformers {
namespace prune {

/// As a double: a fraction in [0, 1], rounded as Python rounds. As an integer: a number of entries or channels.
using Amount = std::variant<double, int64_t>;

enum class PruningType {
  kUnstructured,  // single entries: the method gets the remaining ones as a vector
  kStructured,    // channels along `dim`: the method gets the channels that are not completely pruned
  kGlobal         // the method gets the whole tensor
};

/// Computes masks; derive from it for your own methods. Mirrors `BasePruningMethod`.
class BasePruningMethod {
 public:
  virtual ~BasePruningMethod() = default;
  virtual PruningType type() const = 0;
  /// The channels' dimension, for kStructured.
  virtual int64_t dim() const { return 0; }
  /// Returns the new mask, 0 where entries are pruned. t: the importance of the entries; default_mask: the mask so far,
  /// of the same shape.
  virtual at::Tensor compute_mask(const at::Tensor& t, const at::Tensor& default_mask) const = 0;
};

/// Prunes nothing, but gives a module its mask, so that one can be loaded.
class Identity : public BasePruningMethod {
 public:
  PruningType type() const override { return PruningType::kUnstructured; }
  at::Tensor compute_mask(const at::Tensor& t, const at::Tensor& default_mask) const override;
};

/// Prunes entries drawn at random by LibTorch's global generator: the same ones as in Python with the same seed.
class RandomUnstructured : public BasePruningMethod {
 public:
  explicit RandomUnstructured(Amount amount);
  PruningType type() const override { return PruningType::kUnstructured; }
  at::Tensor compute_mask(const at::Tensor& t, const at::Tensor& default_mask) const override;

 private:
  Amount amount_;
};

/// Prunes the entries of smallest magnitude.
class L1Unstructured : public BasePruningMethod {
 public:
  explicit L1Unstructured(Amount amount);
  PruningType type() const override { return PruningType::kUnstructured; }
  at::Tensor compute_mask(const at::Tensor& t, const at::Tensor& default_mask) const override;

 private:
  Amount amount_;
};

/// Prunes channels along a dimension, drawn at random.
class RandomStructured : public BasePruningMethod {
 public:
  explicit RandomStructured(Amount amount, int64_t dim = -1);
  PruningType type() const override { return PruningType::kStructured; }
  int64_t dim() const override { return dim_; }
  at::Tensor compute_mask(const at::Tensor& t, const at::Tensor& default_mask) const override;

 private:
  Amount amount_;
  int64_t dim_;
};

/// Prunes the channels of smallest n-norm along a dimension; n may be infinite.
class LnStructured : public BasePruningMethod {
 public:
  LnStructured(Amount amount, double n, int64_t dim = -1);
  PruningType type() const override { return PruningType::kStructured; }
  int64_t dim() const override { return dim_; }
  at::Tensor compute_mask(const at::Tensor& t, const at::Tensor& default_mask) const override;

 private:
  Amount amount_;
  double n_;
  int64_t dim_;
};

/// Prunes by a given mask.
class CustomFromMask : public BasePruningMethod {
 public:
  explicit CustomFromMask(at::Tensor mask);
  PruningType type() const override { return PruningType::kGlobal; }
  at::Tensor compute_mask(const at::Tensor& t, const at::Tensor& default_mask) const override;

 private:
  at::Tensor mask_;
};

/// Semi-structured sparsity: of each `of` consecutive entries along the last dimension, keeps the `kept` of largest
/// magnitude. Sparse tensor cores support 2 of 4. Not in torch.nn.utils.prune.
class SemiStructured : public BasePruningMethod {
 public:
  explicit SemiStructured(int64_t kept = 2, int64_t of = 4);
  PruningType type() const override { return PruningType::kGlobal; }
  at::Tensor compute_mask(const at::Tensor& t, const at::Tensor& default_mask) const override;

 private:
  int64_t kept_, of_;
};

/// Prunes the entries of smallest magnitude in each row (dimension 0) separately, as Wanda does: int(fraction ·
/// columns) of them, including those that were pruned before. Not in torch.nn.utils.prune.
class RowwiseUnstructured : public BasePruningMethod {
 public:
  explicit RowwiseUnstructured(Amount amount);
  PruningType type() const override { return PruningType::kGlobal; }
  at::Tensor compute_mask(const at::Tensor& t, const at::Tensor& default_mask) const override;

 private:
  Amount amount_;
};

/// Masks parameter `name` of the module itself (not of its children), in addition to the mask it already has.
/// importance_scores: of the parameter's shape; undefined: the parameter. Throws, changing nothing, on an unknown name,
/// an amount that exceeds the number of entries, a dimension that the parameter lacks, and a parameter masked by
/// something else.
void apply(torch::nn::Module& module, const std::string& name, const BasePruningMethod& method,
           const at::Tensor& importance_scores = {});

void identity(torch::nn::Module& module, const std::string& name);
void random_unstructured(torch::nn::Module& module, const std::string& name, Amount amount);
void l1_unstructured(torch::nn::Module& module, const std::string& name, Amount amount,
                     const at::Tensor& importance_scores = {});
void random_structured(torch::nn::Module& module, const std::string& name, Amount amount, int64_t dim);
void ln_structured(torch::nn::Module& module, const std::string& name, Amount amount, double n, int64_t dim,
                   const at::Tensor& importance_scores = {});
/// mask: zeros and ones, of the parameter's shape.
void custom_from_mask(torch::nn::Module& module, const std::string& name, const at::Tensor& mask);
void semi_structured(torch::nn::Module& module, const std::string& name, int64_t kept = 2, int64_t of = 4,
                     const at::Tensor& importance_scores = {});

/// Parameters of several modules, which are compared together.
using Parameters = std::vector<std::pair<torch::nn::Module*, std::string>>;
/// method: must be unstructured. importance_scores: empty, or one tensor for each parameter; an undefined one stands
/// for the parameter's own values.
void global_unstructured(const Parameters& parameters, const BasePruningMethod& method,
                         const std::vector<at::Tensor>& importance_scores = {});

/// Makes a pruning permanent: pruned entries are zero and can be trained again, and the buffer is removed.
void remove(torch::nn::Module& module, const std::string& name);

/// Whether a parameter of the module or of one of its submodules is pruned.
bool is_pruned(const torch::nn::Module& module);

/// Zeroes the pruned entries of the module and its submodules according to their buffers, and makes sure that they get
/// no gradient. Call it after loading a state dict, after a step of an optimizer whose momentum changed them, and on a
/// clone.
void apply_masks(torch::nn::Module& module);

}  // namespace prune
}  // namespace transformers
