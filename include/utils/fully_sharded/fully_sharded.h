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
// which are split by rows. For what is not implemented see docs/distributed.md.

struct FullyShardedOptions {
  /// Decides whether a module becomes a unit, whose parameters are gathered, used and freed together. The module has to
  /// be called through a holder that runs forward hooks. Unset: the decoder layers of the model become units; see also
  /// wrap_modules. All parameters outside of units form the root unit.
  std::function<bool(const std::string& name, const torch::nn::Module& module)> auto_wrap_policy{};
  /// Units free their gathered parameters between forward and backward; false: they keep them, which saves one
  /// all-gather. The root unit always keeps them, as backward begins with it.
  bool reshard_after_forward = true;
  /// Gather the parameters of the next unit while one computes.
  bool forward_prefetch = true;
  bool backward_prefetch = true;
  MixedPrecision mixed_precision{};
  /// Give parameters and buffers rank 0's values, one unit at a time; the parameters of other ranks may be on the meta
  /// device. False: every rank contributes its own rows.
  bool sync_module_states = false;
  /// Names of modules and parameters that every rank keeps unsharded; their gradients are not reduced.
  std::set<std::string> ignored_modules{};
  std::set<std::string> ignored_parameters{};
};

/// A policy that makes all modules of the given classes units: `wrap_modules<LlamaDecoderLayerImpl>()`. Mirrors
/// `ModuleWrapPolicy`.
template <typename... Modules>
auto wrap_modules() {
  return [](const std::string&, const torch::nn::Module& module) {
    return ((dynamic_cast<const Modules*>(&module) != nullptr) || ...);
  };
}

/// The part of a parameter that a rank holds: its rows from `start` on.
struct ShardedParameter {
  std::string name{};            // the first one in the module, if it has several
  at::Tensor parameter{};        // the module's own
  std::vector<int64_t> sizes{};  // of the unsharded parameter
  int64_t start = 0;
};

/// A module whose parameters, gradients and therefore optimizer states are split over the ranks of a group, independent
/// of the module's type. See FullyShardedDataParallel.
class FullyShardedModule {
 public:
  FullyShardedModule(std::shared_ptr<torch::nn::Module> module, ProcessGroup group, const FullyShardedOptions& options);
  ~FullyShardedModule();
  FullyShardedModule(const FullyShardedModule&) = delete;
  FullyShardedModule& operator=(const FullyShardedModule&) = delete;

  torch::nn::Module& root() const;
  const ProcessGroup& group() const;
  /// In the order of the module, without the ignored ones.
  const std::vector<ShardedParameter>& sharded_parameters() const;
  /// Names of the units; the root's name is empty. A unit with parameters of several dtypes is listed once for each.
  std::vector<std::string> unit_names() const;

  /// For its lifetime, backward keeps unsharded gradients on this rank only; the first backward after it sends the sum.
  /// Costs the memory of unsharded gradients.
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

  /// For its lifetime, every parameter is whole, in its own dtype, on every rank. Must not be used between a forward
  /// and its backward.
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
  /// writeback: keep what was written into a rank's own rows. All ranks must call it.
  FullParams summon_full_params(bool writeback = true) { return {*this, writeback}; }

  /// Scales the gradients so that their 2-norm, over all ranks, is at most `max_norm`; returns the norm before, fp32
  /// []. A `max_norm` of 0 or less only measures. All ranks must call it, after backward.
  at::Tensor clip_grad_norm_(double max_norm);

  struct TRANSFORMERS_PRIVATE State;
  State& state() const { return *state_; }

 protected:
  /// The input on the module's device and in param_dtype.
  Value prepared(const Value& input) const;
  void before_forward();
  /// Receives the tensors from which backward starts.
  void after_forward(const std::optional<std::vector<at::Tensor>>& outputs);

 private:
  std::shared_ptr<State> state_;
};

/// A module that several ranks train, each on its share of a batch and each holding only some rows of every parameter.
/// The parameters of a unit are gathered just before the unit computes and freed right after, in forward and backward.
/// As soon as its backward is done, its gradients are averaged over the ranks, and each rank keeps its rows. For the
/// step to be that of the whole batch, the loss must be the mean over the rank's share, and all shares must have the
/// same size.
///
///     FullyShardedDataParallel model(AutoModelForCausalLM::from_pretrained(folder));
///     AdamW optimizer(decay_groups(model.module(), options), options);
///     const auto output = model.run([&](auto& llama) { return llama.forward({.input_ids = ids}, {.labels = ids}); });
///     output.loss.backward();
///     model.clip_grad_norm_(1.0);
///     optimizer.step();
///
/// The module keeps its type and its names. Its parameters remain the same tensor objects; outside of forward and
/// backward they have the shape of the rank's rows, of which there may be none. Build optimizers afterwards: they work
/// on these rows. Move, cast, resize or prune the module before.
///
/// Construction is a collective operation: it throws on all ranks when their modules differ in shapes or units. All
/// ranks must run the same units in the same order; a rank that does not, and ranks that die or are late, cause an
/// error in forward or backward that names this rank. The object must live as long as its module is used.
template <typename Contained>
class FullyShardedDataParallel : public FullyShardedModule {
 public:
  explicit FullyShardedDataParallel(std::shared_ptr<Contained> module, const FullyShardedOptions& options = {})
      : FullyShardedDataParallel(std::move(module), default_process_group(), options) {}
  FullyShardedDataParallel(std::shared_ptr<Contained> module, ProcessGroup group,
                           const FullyShardedOptions& options = {})
      : FullyShardedModule(module, std::move(group), options), module_(std::move(module)) {}

  /// The module's forward. Tensors among the arguments are moved to the module's device and cast to param_dtype.
  template <typename... Arguments>
  auto forward(const Arguments&... arguments) {
    return run([&](Contained& module) { return module.forward(prepared_argument(arguments)...); });
  }
  template <typename... Arguments>
  auto operator()(const Arguments&... arguments) {
    return forward(arguments...);
  }

  /// Calls `forward` with the module: for a forward whose arguments need braces, or for several forwards without
  /// gradients, as in `run([&](auto& model) { return generate(model, ...); })`, where all ranks must take the same
  /// number of steps. With gradients, the tensors of the output must be accessible: see Value and to_tuple.
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
