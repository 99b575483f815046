#pragma once

#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>
#include <transformers/export.h>

#include <string>
#include <utility>
#include <variant>
#include <vector>

// Mirrors torch/nn/utils/prune.py, torch 2.11.0: functions that mask a parameter of any module by what each of its
// entries, or channels, is worth. The module gets the buffer `<name>_mask`, of the parameter's shape and dtype, as in
// Python; the parameter keeps its name and holds the masked values (parametrization.h), where Python has `<name>_orig`.
// Pruning again prunes more: fractions are of what is left. What is pruned stays so.
namespace TRANSFORMERS_API transformers {
namespace prune {

/// A fraction in [0, 1] when it is a double, rounded as Python rounds; a number of entries or channels as an integer.
using Amount = std::variant<double, int64_t>;

enum class PruningType {
  kUnstructured,  // entries on their own: the method sees those that are left, in one dimension
  kStructured,    // channels along `dim`: the method sees channels that are not pruned whole
  kGlobal         // the method sees the whole tensor
};

/// A way to compute masks; derive from it for one's own. Mirrors `BasePruningMethod`.
class BasePruningMethod {
 public:
  virtual ~BasePruningMethod() = default;
  virtual PruningType type() const = 0;
  /// The channels' dimension, for kStructured.
  virtual int64_t dim() const { return 0; }
  /// The new mask, 0 where something is pruned. t: what entries are worth; default_mask: of its shape, the mask so far.
  virtual at::Tensor compute_mask(const at::Tensor& t, const at::Tensor& default_mask) const = 0;
};

/// Prunes nothing; gives a module its mask, to load one.
class Identity : public BasePruningMethod {
 public:
  PruningType type() const override { return PruningType::kUnstructured; }
  at::Tensor compute_mask(const at::Tensor& t, const at::Tensor& default_mask) const override;
};

/// Entries drawn at random, by LibTorch's global generator: the same ones as in Python under the same seed.
class RandomUnstructured : public BasePruningMethod {
 public:
  explicit RandomUnstructured(Amount amount);
  PruningType type() const override { return PruningType::kUnstructured; }
  at::Tensor compute_mask(const at::Tensor& t, const at::Tensor& default_mask) const override;

 private:
  Amount amount_;
};

/// Entries of smallest magnitude.
class L1Unstructured : public BasePruningMethod {
 public:
  explicit L1Unstructured(Amount amount);
  PruningType type() const override { return PruningType::kUnstructured; }
  at::Tensor compute_mask(const at::Tensor& t, const at::Tensor& default_mask) const override;

 private:
  Amount amount_;
};

/// Channels along a dimension, drawn at random.
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

/// Channels along a dimension of smallest n-norm; n may be infinite.
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

/// A mask given.
class CustomFromMask : public BasePruningMethod {
 public:
  explicit CustomFromMask(at::Tensor mask);
  PruningType type() const override { return PruningType::kGlobal; }
  at::Tensor compute_mask(const at::Tensor& t, const at::Tensor& default_mask) const override;

 private:
  at::Tensor mask_;
};

/// Semi-structured sparsity: of each `of` entries that follow each other along the last dimension the `kept` of largest
/// magnitude stay. 2 of 4 is what sparse tensor cores take. Not in torch.nn.utils.prune.
class SemiStructured : public BasePruningMethod {
 public:
  explicit SemiStructured(int64_t kept = 2, int64_t of = 4);
  PruningType type() const override { return PruningType::kGlobal; }
  at::Tensor compute_mask(const at::Tensor& t, const at::Tensor& default_mask) const override;

 private:
  int64_t kept_, of_;
};

/// In each row (dimension 0) by itself the entries of smallest magnitude, int(fraction · columns) of them counting
/// those that were pruned before: how Wanda compares. Not in torch.nn.utils.prune.
class RowwiseUnstructured : public BasePruningMethod {
 public:
  explicit RowwiseUnstructured(Amount amount);
  PruningType type() const override { return PruningType::kGlobal; }
  at::Tensor compute_mask(const at::Tensor& t, const at::Tensor& default_mask) const override;

 private:
  Amount amount_;
};

/// Masks parameter `name` of a module itself (not of its children), on top of the mask it has. importance_scores: of
/// the parameter's shape; the parameter when undefined. Throws, and changes nothing, for an unknown name, an amount
/// that is more than there is, a dimension the parameter lacks, and a parameter masked by something else.
void apply(torch::nn::Module& module, const std::string& name, const BasePruningMethod& method,
           const at::Tensor& importance_scores = {});

void identity(torch::nn::Module& module, const std::string& name);
void random_unstructured(torch::nn::Module& module, const std::string& name, Amount amount);
void l1_unstructured(torch::nn::Module& module, const std::string& name, Amount amount,
                     const at::Tensor& importance_scores = {});
void random_structured(torch::nn::Module& module, const std::string& name, Amount amount, int64_t dim);
void ln_structured(torch::nn::Module& module, const std::string& name, Amount amount, double n, int64_t dim,
                   const at::Tensor& importance_scores = {});
/// mask: 0 and 1, of the parameter's shape.
void custom_from_mask(torch::nn::Module& module, const std::string& name, const at::Tensor& mask);
void semi_structured(torch::nn::Module& module, const std::string& name, int64_t kept = 2, int64_t of = 4,
                     const at::Tensor& importance_scores = {});

/// Parameters of several modules, compared all together.
using Parameters = std::vector<std::pair<torch::nn::Module*, std::string>>;
/// method: an unstructured one. importance_scores: none, or one for each parameter, undefined for its own values.
void global_unstructured(const Parameters& parameters, const BasePruningMethod& method,
                         const std::vector<at::Tensor>& importance_scores = {});

/// Makes a pruning permanent: pruned entries are zero and ordinary again, the buffer is gone.
void remove(torch::nn::Module& module, const std::string& name);

/// Whether a parameter of the module or of one inside it is pruned.
bool is_pruned(const torch::nn::Module& module);

/// Zeroes pruned entries of the module and all inside it by their buffers, and sees to it that they get no gradient:
/// after loading a state dict, after an optimizer whose momentum moved them, and in a clone.
void apply_masks(torch::nn::Module& module);

}  // namespace prune
}  // namespace transformers
