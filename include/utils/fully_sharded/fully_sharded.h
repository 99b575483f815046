#pragma once

/// \file
/// The room utils/fully_sharded trains a model whose parameters, gradients and optimizer states are split over the
/// ranks by rows, and saves it, sharded or as one model. Each rank works on its own part of a batch; to split the
/// computation of one sample, use utils/tensor_parallel or utils/pipeline.

#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>
#include <transformers/export.h>
#include <transformers/utils/distributed/data_parallel.h>
#include <transformers/utils/distributed/process_group.h>

#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace TRANSFORMERS_API transformers {

// Mirrors torch/distributed/fsdp, torch 2.11: the names of FullyShardedDataParallel, the parameters of fully_shard,
// which are split by rows. What is left out: docs/distributed.md.

struct FullyShardedOptions {
  /// Says of a module, by its name and itself, whether it becomes a unit of its own: what is gathered, computed with
  /// and freed together. It has to be called through a holder that runs forward hooks. Unset: the decoder layers
  /// of the model, see wrap_modules too. What lies in no such module is the root unit.
  std::function<bool(const std::string& name, const torch::nn::Module& module)> auto_wrap_policy{};
  /// Units free their gathered parameters between forward and backward; off: they keep them, for one all-gather less.
  /// The root unit always keeps them, as backward begins with it.
  bool reshard_after_forward = true;
  /// The next unit's parameters travel while one computes.
  bool forward_prefetch = true;
  bool backward_prefetch = true;
  MixedPrecision mixed_precision{};
  /// Parameters and buffers get rank 0's values, a unit at a time; the parameters of other ranks may be on the meta
  /// device. Off: every rank gives its rows.
  bool sync_module_states = false;
  /// Names of modules and parameters that every rank keeps whole; nothing is done about their gradients.
  std::set<std::string> ignored_modules{};
  std::set<std::string> ignored_parameters{};
};

/// A policy that makes units of all modules of the given classes: `wrap_modules<LlamaDecoderLayerImpl>()`. Mirrors
/// `ModuleWrapPolicy`.
template <typename... Modules>
auto wrap_modules() {
  return [](const std::string&, const torch::nn::Module& module) {
    return ((dynamic_cast<const Modules*>(&module) != nullptr) || ...);
  };
}

/// What a rank holds of a parameter: its rows from `start` on.
struct ShardedParameter {
  std::string name{};            // the first one in the module, where it has several
  at::Tensor parameter{};        // the module's own
  std::vector<int64_t> sizes{};  // of the whole
  int64_t start = 0;
};

/// A module whose parameters, gradients and, by that, optimizer states are spread over the ranks of a group, whatever
/// the module's type. See FullyShardedDataParallel.
class FullyShardedModule {
 public:
  FullyShardedModule(std::shared_ptr<torch::nn::Module> module, ProcessGroup group, const FullyShardedOptions& options);
  ~FullyShardedModule();
  FullyShardedModule(const FullyShardedModule&) = delete;
  FullyShardedModule& operator=(const FullyShardedModule&) = delete;

  torch::nn::Module& root() const;
  const ProcessGroup& group() const;
  /// In the order of the module, without those that are ignored.
  const std::vector<ShardedParameter>& sharded_parameters() const;
  /// Names of the units, the root's is empty; one that has parameters of several dtypes stands once for each.
  std::vector<std::string> unit_names() const;

  /// While it lives, backward keeps whole gradients on this rank alone; the first one after it sends the sum. Costs the
  /// memory of whole gradients.
  class [[nodiscard]] NoSync {
   public:
    explicit NoSync(bool& require_sync) : require_sync_(&require_sync), before_(std::exchange(require_sync, false)) {}
    NoSync(const NoSync&) = delete;
    NoSync& operator=(const NoSync&) = delete;
    ~NoSync() { *require_sync_ = before_; }

   private:
    bool* require_sync_;
    bool before_;
  };
  NoSync no_sync();

  /// While it lives, every parameter is whole, in its own dtype, on every rank. Not between a forward and its backward.
  class [[nodiscard]] FullParams {
   public:
    FullParams(FullyShardedModule& module, bool writeback);
    FullParams(const FullParams&) = delete;
    FullParams& operator=(const FullParams&) = delete;
    ~FullParams();

   private:
    FullyShardedModule* module_;
    bool writeback_;
  };
  /// writeback: what was written into a rank's own rows is kept. All ranks call it.
  FullParams summon_full_params(bool writeback = true) { return {*this, writeback}; }

  /// Scales the gradients so that their 2-norm, over all ranks, is at most `max_norm`; returns the norm before, fp32
  /// []. A `max_norm` of 0 or less only measures. All ranks call it, after backward.
  at::Tensor clip_grad_norm_(double max_norm);

  struct State;
  State& state() const { return *state_; }

 protected:
  /// On the module's device and in param_dtype.
  Value prepared(const Value& input) const;
  void before_forward();
  /// Tells which tensors backward starts from.
  void after_forward(const std::optional<std::vector<at::Tensor>>& outputs);

 private:
  std::shared_ptr<State> state_;
};

/// A module that several ranks train on their shares of each batch, of which each holds a part of the rows of every
/// parameter. A unit's parameters are gathered just before the unit computes and freed right after, in forward and
/// backward; its gradients become the mean over the ranks as soon as its backward is done, each rank keeping its rows.
/// The loss must be the mean over the rank's share, and shares must be of one size, for the step to be that of the
/// whole batch.
///
///     FullyShardedDataParallel model(AutoModelForCausalLM::from_pretrained(folder));
///     AdamW optimizer(decay_groups(model.module(), options), options);
///     const auto output = model.run([&](auto& llama) { return llama.forward({.input_ids = ids}, {.labels = ids}); });
///     output.loss.backward();
///     model.clip_grad_norm_(1.0);
///     optimizer.step();
///
/// The module stays what it is, with its names; its parameters are the same tensors and have the shape of the rank's
/// rows, which may be none, whenever nothing computes. Optimizers are built afterwards, and go by them. Moving or
/// casting the module, resizing and pruning come before.
///
/// Construction is a collective: it throws on all ranks when their modules differ in shapes or units. All ranks run the
/// same units in the same order; one that does not, and ranks that die or are late, surface in forward or backward as
/// an error that names this rank. The object has to live as long as its module is used.
template <typename Contained>
class FullyShardedDataParallel : public FullyShardedModule {
 public:
  explicit FullyShardedDataParallel(std::shared_ptr<Contained> module, const FullyShardedOptions& options = {})
      : FullyShardedDataParallel(std::move(module), default_process_group(), options) {}
  FullyShardedDataParallel(std::shared_ptr<Contained> module, ProcessGroup group,
                           const FullyShardedOptions& options = {})
      : FullyShardedModule(module, std::move(group), options), module_(std::move(module)) {}

  /// The module's forward. Tensors among the arguments are brought to the module's device and to param_dtype.
  template <typename... Arguments>
  auto forward(const Arguments&... arguments) {
    return run([&](Contained& module) { return module.forward(prepared_argument(arguments)...); });
  }
  template <typename... Arguments>
  auto operator()(const Arguments&... arguments) {
    return forward(arguments...);
  }

  /// Calls `forward` with the module, for a forward that needs braces around its arguments, or for several without
  /// gradient: `run([&](auto& model) { return generate(model, ...); })`, where all ranks have to take as many steps.
  /// With gradients the output's type has to be one whose tensors can be seen: see Value and to_tuple.
  template <typename Forward>
  auto run(Forward&& forward) {
    before_forward();
    auto output = std::forward<Forward>(forward)(*module_);
    after_forward(detail::output_tensors(output));
    return output;
  }

  Contained& module() { return *module_; }
  const std::shared_ptr<Contained>& ptr() const { return module_; }

 private:
  template <typename Argument>
  Argument prepared_argument(const Argument& argument) const {
    if constexpr (std::is_same_v<Argument, at::Tensor> || VisitableStruct<Argument>) {
      return prepared(argument).template to<Argument>();
    } else {
      return argument;
    }
  }

  std::shared_ptr<Contained> module_;
};

}  // namespace transformers
