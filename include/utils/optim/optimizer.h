#pragma once

/// \file
/// The room utils/optim holds optimizers, learning rate schedules, parameter groups, gradient clipping and scaling, and
/// moving averages of weights. It does not know models or data: everything works on tensors and torch::nn modules.
///
///     AdamW optimizer(decay_groups(*model, torch::optim::AdamWOptions(2e-5).weight_decay(0.01)));
///     const auto schedule = get_scheduler(SchedulerType::kConstant, optimizer);
///     loss.backward();
///     clip_grad_norm_(all_parameters(optimizer), /*max_norm=*/1.0);
///     optimizer.step();
///     schedule->step();
///     optimizer.zero_grad();

#include <torch/optim/adamw.h>
#include <torch/optim/optimizer.h>
#include <torch/optim/sgd.h>
#include <transformers/export.h>
#include <transformers/utils/nn/state_dict.h>
#include <transformers/utils/pruning/optimizer_state.h>

#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

namespace TRANSFORMERS_API transformers {

/// How parameters in bfloat16 or float16 take an update that is smaller than their last bit.
enum class LowPrecision {
  kPlain,               // as torch: state and update in the parameter's dtype, small updates are lost
  kMasterWeights,       // an fp32 copy of each parameter takes the update; 4 more bytes a parameter, fp32 state
  kStochasticRounding,  // rounded up or down with the right probabilities: unbiased without a copy; fp32 state, bf16
                        // only
};

/// What an optimizer keeps of one parameter, by torch's names ("exp_avg", "step").
struct ParamState : torch::optim::OptimizerCloneableParamState<ParamState>, NarrowableState {
  std::map<std::string, at::Tensor> tensors;

  std::vector<at::Tensor*> parameter_shaped() override;
  void serialize(torch::serialize::InputArchive& archive) override;
  void serialize(torch::serialize::OutputArchive& archive) const override;
};

/// Base of the library's optimizers. They are torch optimizers: param groups, learning rates, closures and zero_grad
/// are theirs, and any loop written for `torch::optim` takes one. They add a state that goes into safetensors files,
/// fp16 gradients that are still scaled, and low precision done right. `torch::save` and `torch::load` take one, with
/// its state and the options of its groups.
class Optimizer : public torch::optim::Optimizer {
 public:
  /// A parameter that comes twice in a group, as a tied one does in what LibTorch lists, is stepped once; one that
  /// comes in two groups is an error.
  Optimizer(const std::vector<torch::optim::OptimizerParamGroup>& groups,
            std::unique_ptr<torch::optim::OptimizerOptions> defaults, LowPrecision low_precision);

  /// Parameters without a gradient are left alone. Returns the closure's loss, undefined without a closure.
  at::Tensor step(LossClosure closure = nullptr) final;

  /// Updates one parameter of any group by the gradient it has now, for optimizers that step inside backward.
  void step_parameter(const at::Tensor& parameter);

  /// "<index>.<name>", the index counting through all groups; only what steps have made so far.
  StateDict state_dict() const;
  /// Throws, changing nothing, on an index that is not there or a shape that does not fit.
  void load_state_dict(const StateDict& state);

  void save(torch::serialize::OutputArchive& archive) const final;
  /// Throws as load_state_dict, and when the archive has other groups.
  void load(torch::serialize::InputArchive& archive) final;

 protected:
  /// Parameters of one group that have a gradient. `values` are what to update: the parameters themselves, their
  /// master weights, or fp32 copies that are rounded back afterwards; `grads` have the dtype of `values`.
  struct Batch {
    const torch::optim::OptimizerOptions& options;
    std::vector<at::Tensor> values{}, grads{};
    std::vector<ParamState*> states{};
  };
  virtual void update(Batch& batch) = 0;

 private:
  Batch gather(const torch::optim::OptimizerParamGroup& group, const std::vector<at::Tensor>& parameters);
  void step_group(const torch::optim::OptimizerParamGroup& group, const std::vector<at::Tensor>& parameters);
  ParamState& state_of(const at::Tensor& parameter);
  at::Tensor value_of(const at::Tensor& parameter, ParamState& state) const;
  void write_back(const std::vector<at::Tensor>& parameters, const Batch& batch) const;

  LowPrecision low_precision_;
};

/// Adam with decoupled weight decay over LibTorch's fused kernels: all parameters of a group in one call. Same numbers
/// as `torch.optim.AdamW`. Options: torch::optim::AdamWOptions.
class AdamW : public Optimizer {
 public:
  explicit AdamW(const std::vector<torch::optim::OptimizerParamGroup>& groups, torch::optim::AdamWOptions defaults = {},
                 LowPrecision low_precision = LowPrecision::kPlain);
  explicit AdamW(std::vector<at::Tensor> parameters, torch::optim::AdamWOptions defaults = {},
                 LowPrecision low_precision = LowPrecision::kPlain);

 private:
  void update(Batch& batch) override;
};

/// Stochastic gradient descent with momentum as `torch.optim.SGD`. Options: torch::optim::SGDOptions.
class SGD : public Optimizer {
 public:
  explicit SGD(const std::vector<torch::optim::OptimizerParamGroup>& groups, torch::optim::SGDOptions defaults,
               LowPrecision low_precision = LowPrecision::kPlain);

 private:
  void update(Batch& batch) override;
};

struct LionOptions : torch::optim::OptimizerCloneableOptions<LionOptions> {
  LionOptions(double lr = 1e-4) : lr_(lr) {}
  TORCH_ARG(double, lr) = 1e-4;
  using betas_t = std::tuple<double, double>;
  TORCH_ARG(betas_t, betas) = std::make_tuple(0.9, 0.99);
  TORCH_ARG(double, weight_decay) = 0;

 public:
  double get_lr() const override { return lr(); }
  void set_lr(double rate) override { lr(rate); }
  void serialize(torch::serialize::InputArchive& archive) override;
  void serialize(torch::serialize::OutputArchive& archive) const override;
};

/// The sign of an interpolated momentum (Chen et al. 2023, algorithm 2), decoupled weight decay.
class Lion : public Optimizer {
 public:
  explicit Lion(const std::vector<torch::optim::OptimizerParamGroup>& groups, LionOptions defaults = {},
                LowPrecision low_precision = LowPrecision::kPlain);

 private:
  void update(Batch& batch) override;
};

struct AdafactorOptions : torch::optim::OptimizerCloneableOptions<AdafactorOptions> {
  AdafactorOptions(double lr = 1e-3) : lr_(lr) {}
  TORCH_ARG(double, lr) = 1e-3;
  /// Added to the squared gradient, and the least root mean square of a parameter that scales its rate.
  using eps_t = std::tuple<double, double>;
  TORCH_ARG(eps_t, eps) = std::make_tuple(1e-30, 1e-3);
  TORCH_ARG(double, clip_threshold) = 1;
  TORCH_ARG(double, decay_rate) = -0.8;
  TORCH_ARG(std::optional<double>, beta1);
  TORCH_ARG(double, weight_decay) = 0;
  TORCH_ARG(bool, scale_parameter) = true;
  /// The rate follows the number of steps and `lr` is not read.
  TORCH_ARG(bool, relative_step) = true;
  TORCH_ARG(bool, warmup_init) = false;

 public:
  double get_lr() const override { return lr(); }
  void set_lr(double rate) override { lr(rate); }
  void serialize(torch::serialize::InputArchive& archive) override;
  void serialize(torch::serialize::OutputArchive& archive) const override;
};

/// Mirrors HF `Adafactor` (optimization.py, transformers 5.23.0): second moments as one row and one column of a matrix.
/// HF's Trainer turns scale_parameter and relative_step off. bf16 and fp16 parameters are updated in fp32 and rounded,
/// whatever LowPrecision says beyond that.
class Adafactor : public Optimizer {
 public:
  explicit Adafactor(const std::vector<torch::optim::OptimizerParamGroup>& groups, AdafactorOptions defaults = {},
                     LowPrecision low_precision = LowPrecision::kPlain);

 private:
  void update(Batch& batch) override;
};

}  // namespace transformers
