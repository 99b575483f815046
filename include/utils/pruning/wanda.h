#pragma once

#include <transformers/export.h>
#include <transformers/utils/nn/linear.h>
#include <transformers/utils/pruning/prune.h>

#include <memory>

namespace TRANSFORMERS_API transformers {

/// ‖x_j‖₂ of each input feature j over all tokens of calibration data.
class InputNorm {
 public:
  /// input: [..., features]
  void add(const at::Tensor& input);
  /// float32 [features]; throws when nothing was added.
  at::Tensor value() const;

 private:
  at::Tensor squares_{};  // float64 [features]
};

/// Adds what a `Linear` is called with to an `InputNorm`, while it lives. Sees calls through the layer's holder, as
/// models make them. For LibTorch's own modules, which have no hooks, add the inputs to an `InputNorm` oneself.
class InputNormObserver {
 public:
  explicit InputNormObserver(std::shared_ptr<LinearImpl> linear);
  ~InputNormObserver();
  InputNormObserver(const InputNormObserver&) = delete;
  InputNormObserver& operator=(const InputNormObserver&) = delete;

  const InputNorm& norm() const { return *norm_; }

 private:
  std::shared_ptr<LinearImpl> linear_;
  std::shared_ptr<InputNorm> norm_;
  ForwardHooks::HookId hook_;
};

/// |weight| · ‖x‖₂, what Wanda ("A Simple and Effective Pruning Approach for Large Language Models", Sun et al.) takes
/// an entry to be worth. weight: [out_features, in_features]; input_norm: [in_features]. For `prune::semi_structured`
/// or any other method as importance scores.
at::Tensor wanda_scores(const at::Tensor& weight, const at::Tensor& input_norm);

namespace prune {

/// Prunes the given part of each row of a layer's weight [out_features, in_features] by Wanda's scores.
void wanda(torch::nn::Module& module, const std::string& name, const at::Tensor& input_norm, Amount amount);

}  // namespace prune
}  // namespace transformers
