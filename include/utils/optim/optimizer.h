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

/// How updates that are smaller than the last bit of a bfloat16 or float16 parameter are applied.
enum class LowPrecision {
  kPlain,               // as in torch: state and update in the parameter's dtype; small updates are lost
  kMasterWeights,       // updates an fp32 copy of each parameter; 4 more bytes per parameter, fp32 state
  kStochasticRounding,  // rounded up or down with the right probabilities: unbiased without a copy; fp32 state, bf16
                        // only
};

/// The state of one parameter, by torch's names ("exp_avg", "step").
struct ParamState : torch::optim::OptimizerCloneableParamState<ParamState>, NarrowableState {
  std::map<std::string, at::Tensor> tensors;

  std::vector<at::Tensor*> parameter_shaped() override;
  void serialize(torch::serialize::InputArchive& archive) override;
  void serialize(torch::serialize::OutputArchive& archive) const override;
};

/// Base class of the library's optimizers. They are torch optimizers: parameter groups, learning rates, closures and
/// zero_grad are those of torch, and any loop written for `torch::optim` works with them. They add a state that can be
/// stored in safetensors files, and LowPrecision. `torch::save` and `torch::load` save and restore the state and the
/// options of the groups.
class Optimizer : public torch::optim::Optimizer {
 public:
  /// A parameter that is listed twice in a group, as LibTorch lists tied parameters, is stepped once. Throws on a
  /// parameter that is listed in two groups.
  Optimizer(const std::vector<torch::optim::OptimizerParamGroup>& groups,
            std::unique_ptr<torch::optim::OptimizerOptions> defaults, LowPrecision low_precision);

  /// Skips parameters without a gradient. Returns the closure's loss; undefined without a closure.
  at::Tensor step(LossClosure closure = nullptr) final;

  /// Updates one parameter of any group by its current gradient, for optimizers that step inside backward.
  void step_parameter(const at::Tensor& parameter);

  /// States by "<index>.<name>", where the index counts through all groups. Parameters that were never stepped have
  /// none.
  StateDict state_dict() const;
  /// Throws, changing nothing, on an index that does not exist or a shape that does not fit.
  void load_state_dict(const StateDict& state);

  void save(torch::serialize::OutputArchive& archive) const final;
  /// Throws as load_state_dict does, and when the groups of the archive differ.
  void load(torch::serialize::InputArchive& archive) final;

 protected:
  /// The parameters of one group that have a gradient. `values` are the tensors to update: the parameters themselves,
  /// their master weights, or fp32 copies that are rounded back afterwards. `grads` have the dtype of `values`.
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

/// Adam with decoupled weight decay, with LibTorch's fused kernels: one call updates all parameters of a group.
/// Computes the same values as `torch.optim.AdamW`. Options: torch::optim::AdamWOptions.
class AdamW : public Optimizer {
 public:
  explicit AdamW(const std::vector<torch::optim::OptimizerParamGroup>& groups, torch::optim::AdamWOptions defaults = {},
                 LowPrecision low_precision = LowPrecision::kPlain);
  explicit AdamW(std::vector<at::Tensor> parameters, torch::optim::AdamWOptions defaults = {},
                 LowPrecision low_precision = LowPrecision::kPlain);

 private:
  void update(Batch& batch) override;
};

/// Stochastic gradient descent with momentum, as `torch.optim.SGD`. Options: torch::optim::SGDOptions.
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

/// Updates by the sign of an interpolated momentum (Chen et al. 2023, algorithm 2), with decoupled weight decay.
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
  /// The constant added to the squared gradient, and the smallest root mean square of a parameter by which its rate is
  /// scaled.
  using eps_t = std::tuple<double, double>;
  TORCH_ARG(eps_t, eps) = std::make_tuple(1e-30, 1e-3);
  TORCH_ARG(double, clip_threshold) = 1;
  TORCH_ARG(double, decay_rate) = -0.8;
  TORCH_ARG(std::optional<double>, beta1);
  TORCH_ARG(double, weight_decay) = 0;
  TORCH_ARG(bool, scale_parameter) = true;
  /// The rate depends on the number of steps and `lr` is ignored.
  TORCH_ARG(bool, relative_step) = true;
  TORCH_ARG(bool, warmup_init) = false;

 public:
  double get_lr() const override { return lr(); }
  void set_lr(double rate) override { lr(rate); }
  void serialize(torch::serialize::InputArchive& archive) override;
  void serialize(torch::serialize::OutputArchive& archive) const override;
};

/// Mirrors HF `Adafactor` (optimization.py, transformers 5.23.0): stores the second moments of a matrix as one row and
/// one column. HF's Trainer turns scale_parameter and relative_step off. bf16 and fp16 parameters are always updated in
/// fp32 and then rounded, also with LowPrecision::kPlain.
class Adafactor : public Optimizer {
 public:
  explicit Adafactor(const std::vector<torch::optim::OptimizerParamGroup>& groups, AdafactorOptions defaults = {},
                     LowPrecision low_precision = LowPrecision::kPlain);

 private:
  void update(Batch& batch) override;
};

}  // namespace transformers
