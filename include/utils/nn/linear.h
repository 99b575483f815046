#pragma once

#include <torch/nn/modules/linear.h>
#include <transformers/export.h>
#include <transformers/utils/nn/module.h>

#include <memory>

namespace TRANSFORMERS_API transformers {

class LinearImpl;

/// The linear method: how a `Linear` computes its output from its weights. It is exchanged in place, so that packed,
/// quantised, adapted or partitioned matmuls replace the plain one, and neither the model nor the names in its state
/// dict change.
class LinearMethod {
 public:
  virtual ~LinearMethod() = default;
  /// input: [..., in_features]; returns [..., out_features].
  virtual torch::Tensor forward(const LinearImpl& linear, const torch::Tensor& input) const = 0;
  /// Of the weight that stands in for the layer's own, which is then a meta tensor; 0: none does.
  virtual int64_t bytes() const { return 0; }
  /// The method of `copy`, a clone of the layer that has its parameters already. Null: the two share this one, which
  /// then holds nothing that changes.
  virtual std::shared_ptr<const LinearMethod> clone(const LinearImpl& copy, TensorCopies& copies) const {
    (void)copy, (void)copies;
    return nullptr;
  }
};

/// `torch::nn::Linear` built as `construction_options()` say: in their dtype, on their device, and without the
/// initialisation pass when they ask for none. weight: [out_features, in_features]; bias: [out_features] or undefined.
class LinearImpl : public torch::nn::LinearImpl, public ForwardHooks {
 public:
  LinearImpl(int64_t in_features, int64_t out_features, bool bias = true);

  /// Takes the parameters as they are, without a copy; bias may be undefined.
  LinearImpl(torch::Tensor weight, torch::Tensor bias);

  /// input: [..., in_features]; returns [..., out_features]. Changes nothing; not const, as torch::nn::Sequential takes
  /// no module whose forward is.
  torch::Tensor forward(const torch::Tensor& input);

  std::shared_ptr<torch::nn::Module> clone(const std::optional<torch::Device>& device = std::nullopt) const override;

  /// Becomes a copy of another layer: parameters, buffers, hooks, method and mode.
  void copy_from(const LinearImpl& other, TensorCopies& copies);

  /// Replaces weight and bias, in shape too, as new leaf parameters; stale gradients go with the old ones.
  void set_parameters(torch::Tensor new_weight, torch::Tensor new_bias);

  /// Makes `weight` the given tensor itself, as tied embeddings share one.
  void tie_weight(const torch::Tensor& shared);

  /// Null is the plain matmul with `weight` and `bias`.
  void set_method(std::shared_ptr<const LinearMethod> method) { method_ = std::move(method); }
  const std::shared_ptr<const LinearMethod>& method() const { return method_; }

 private:
  std::shared_ptr<const LinearMethod> method_;
};
TRANSFORMERS_MODULE(Linear);

}  // namespace transformers
