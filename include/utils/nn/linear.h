#pragma once

#include <torch/nn/modules/linear.h>
#include <transformers/export.h>
#include <transformers/utils/nn/module.h>

#include <memory>

namespace TRANSFORMERS_API transformers {

class LinearImpl;

/// The linear method: how a `Linear` computes its output from its weights. It can be exchanged in place: packed,
/// quantised, adapted or partitioned matmuls replace the plain one, without a change to the model or to the names in
/// its state dict.
class LinearMethod {
 public:
  virtual ~LinearMethod() = default;
  /// input: [..., in_features]; returns [..., out_features].
  virtual torch::Tensor forward(const LinearImpl& linear, const torch::Tensor& input) const = 0;
  /// Bytes of the weight that this method holds in place of the layer's own, which is then a meta tensor; 0: it holds
  /// none.
  virtual int64_t bytes() const { return 0; }
  /// Returns the method for `copy`, a clone of the layer that has its parameters already. Null: both layers share this
  /// method, which must then hold nothing that changes.
  virtual std::shared_ptr<const LinearMethod> clone(const LinearImpl& copy, TensorCopies& copies) const {
    (void)copy, (void)copies;
    return nullptr;
  }
};

/// `torch::nn::Linear`, constructed according to `construction_options()`: in their dtype, on their device, and
/// uninitialised if they say so. weight: [out_features, in_features]; bias: [out_features] or undefined.
class LinearImpl : public torch::nn::LinearImpl, public ForwardHooks {
 public:
  LinearImpl(int64_t in_features, int64_t out_features, bool bias = true);

  /// Uses the given parameters without a copy; bias may be undefined.
  LinearImpl(torch::Tensor weight, torch::Tensor bias);

  /// input: [..., in_features]; returns [..., out_features]. Does not change the layer; it is not const because
  /// torch::nn::Sequential requires a non-const forward.
  torch::Tensor forward(const torch::Tensor& input);

  std::shared_ptr<torch::nn::Module> clone(const std::optional<torch::Device>& device = std::nullopt) const override;

  /// Makes this a copy of another layer: parameters, buffers, hooks, method and mode.
  void copy_from(const LinearImpl& other, TensorCopies& copies);

  /// Replaces weight and bias by new leaf parameters, which may have other shapes; the old gradients are dropped.
  void set_parameters(torch::Tensor new_weight, torch::Tensor new_bias);

  /// Makes `weight` the given tensor itself, as tied embeddings do.
  void tie_weight(const torch::Tensor& shared);

  /// Null stands for the plain matmul with `weight` and `bias`.
  void set_method(std::shared_ptr<const LinearMethod> method) { method_ = std::move(method); }
  const std::shared_ptr<const LinearMethod>& method() const { return method_; }

 private:
  std::shared_ptr<const LinearMethod> method_;
};
TRANSFORMERS_MODULE(Linear);

}  // namespace transformers
