#pragma once

#include <transformers/export.h>
#include <transformers/utils/nn/linear.h>
#include <transformers/utils/pruning/prune.h>

#include <memory>

namespace TRANSFORMERS_API transformers {

/// Accumulates ‖x_j‖₂ of each input feature j over all tokens of calibration data.
class InputNorm {
 public:
  /// input: [..., features]
  void add(const at::Tensor& input);
  /// The norms, float32 [features]. Throws when nothing was added.
  at::Tensor value() const;

 private:
  at::Tensor squares_{};  // float64 [features]
};

/// For its lifetime adds the inputs of a `Linear` to an `InputNorm`. It sees calls through the layer's holder, as
/// models make them. LibTorch's own modules have no hooks; add their inputs to an `InputNorm` yourself.
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

/// |weight| · ‖x‖₂, the importance of entries according to Wanda ("A Simple and Effective Pruning Approach for Large
/// Language Models", Sun et al.). weight: [out_features, in_features]; input_norm: [in_features]. Can be passed as
/// importance scores to `prune::semi_structured` and the other methods.
at::Tensor wanda_scores(const at::Tensor& weight, const at::Tensor& input_norm);

namespace prune {

/// Prunes the given amount of each row of a layer's weight [out_features, in_features] by Wanda's scores.
void wanda(torch::nn::Module& module, const std::string& name, const at::Tensor& input_norm, Amount amount);

}  // namespace prune
}  // namespace transformers
