#pragma once

#include <torch/nn/module.h>
#include <transformers/export.h>
#include <transformers/utils/nn/state_dict.h>

#include <string>
#include <utility>
#include <vector>

namespace TRANSFORMERS_API transformers {

/// Averages of a model's trainable parameters over the steps of a run: decay · average + (1 − decay) · parameter, where
/// the first update copies the parameters. Mirrors torch 2.11.0's `AveragedModel` with `get_ema_multi_avg_fn`, except
/// that averages of bf16 and fp16 parameters are fp32, so that small changes are not lost. The model must outlive it.
class ExponentialMovingAverage {
 public:
  /// decay in [0, 1].
  explicit ExponentialMovingAverage(const torch::nn::Module& model, double decay = 0.999);

  /// To be called after each optimizer step.
  void update();
  double decay() const { return decay_; }
  int64_t n_averaged() const { return n_averaged_; }

  /// The averages under the names of the parameters, and n_averaged.
  StateDict state_dict() const;
  /// Throws, changing nothing, when a name or a shape does not match the model.
  void load_state_dict(const StateDict& state);

 private:
  friend class AveragedWeights;

  double decay_;
  int64_t n_averaged_ = 0;
  std::vector<std::string> names_;
  std::vector<at::Tensor> parameters_, averages_;
};

/// For its lifetime the model uses the averages as its weights; afterwards it has its own weights again, bit for bit.
/// Before the first update both are the same.
class AveragedWeights {
 public:
  explicit AveragedWeights(const ExponentialMovingAverage& average);
  ~AveragedWeights();
  AveragedWeights(const AveragedWeights&) = delete;
  AveragedWeights& operator=(const AveragedWeights&) = delete;

 private:
  std::vector<at::Tensor> parameters_, own_;
};

}  // namespace transformers
