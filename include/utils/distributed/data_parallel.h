#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/ScalarType.h>
#include <torch/nn/module.h>
#include <transformers/export.h>
#include <transformers/utils/distributed/container_utils.h>
#include <transformers/utils/distributed/process_group.h>

#include <memory>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

namespace TRANSFORMERS_API transformers {

// Mirrors torch/nn/parallel/distributed.py, torch 2.11. For what is not implemented see docs/distributed.md.

/// Precision below that of the parameters, for floating tensors. Mirrors `_MixedPrecision`.
struct MixedPrecision {
  /// Forward and backward run on copies of the parameters in this dtype, and inputs are cast to it. Between a backward
  /// and the next forward, when optimizers and checkpoints use them, parameters and gradients have their own dtype.
  std::optional<c10::ScalarType> param_dtype{};
  /// Gradients are sent and averaged in this dtype. Unset: param_dtype, or the gradients' own dtype.
  std::optional<c10::ScalarType> reduce_dtype{};
  /// Buffers are permanently cast to this dtype.
  std::optional<c10::ScalarType> buffer_dtype{};
};

struct DataParallelOptions {
  bool broadcast_buffers = true;  // broadcast rank 0's buffers before each synchronised forward
  bool init_sync = true;          // verify shapes and take rank 0's values at the start; false: the caller has done so
  /// Gradients are sent in buckets of up to this many MiB while backward continues. Unset: 25, and 1 for the first.
  std::optional<double> bucket_cap_mb{};
  /// Allow parameters that take no part in some forwards. Costs a traversal of the graph in each forward.
  bool find_unused_parameters = false;
  /// Make gradients views of the buckets, which saves one copy of them.
  bool gradient_as_bucket_view = false;
  MixedPrecision mixed_precision{};
  /// Names of parameters and buffers that are neither synchronised nor verified.
  std::set<std::string> parameters_to_ignore{};
};

namespace detail {

template <typename T>
inline constexpr bool is_std_tuple = false;
template <typename... T>
inline constexpr bool is_std_tuple<std::tuple<T...>> = true;

/// The tensors of a forward's output; nullopt when its type is unknown.
template <typename Output>
std::optional<std::vector<at::Tensor>> output_tensors(const Output& output) {
  if constexpr (std::is_constructible_v<Value, const Output&>) {
    return tensors_in(output);
  } else if constexpr (is_std_tuple<Output>) {
    return std::apply([](const auto&... parts) { return tensors_in(Value::tuple({Value(parts)...})); }, output);
  } else if constexpr (requires { to_tuple(output); }) {
    return to_tuple(output);
  } else {
    return std::nullopt;
  }
}

/// The work of data parallelism around a module's forward, independent of the module's type.
class DataParallelSteps {
 public:
  DataParallelSteps(std::shared_ptr<torch::nn::Module> module, ProcessGroup group, const DataParallelOptions& options);
  ~DataParallelSteps();
  DataParallelSteps(const DataParallelSteps&) = delete;
  DataParallelSteps& operator=(const DataParallelSteps&) = delete;

  /// The input on the module's device and in its dtype.
  Value prepared(const Value& input) const;
  void before_forward();
  /// Receives the outputs from which backward may start.
  void after_forward(const std::optional<std::vector<at::Tensor>>& outputs);
  /// Passes the output through an autograd node, so that backward reaches every parameter of the forward, whichever
  /// part of the output the loss uses.
  Value through_sink(const Value& output) const;
  bool uses_sink() const;
  void set_require_sync(bool require);
  bool requires_sync() const;
  std::vector<int64_t> gradient_order() const;
  void set_gradient_order(const std::vector<int64_t>& order);

 private:
  struct TRANSFORMERS_PRIVATE State;
  std::unique_ptr<State> state_;
};

}  // namespace detail

/// A module of which every rank has a replica that computes its own share of each batch. During backward() gradients
/// are averaged over the ranks, so that equal optimizer steps keep the replicas equal. For the step to be that of the
/// whole batch, the loss must be the mean over the rank's share, and all shares must have the same size.
///
///     DistributedDataParallel model(LlamaForCausalLM(config).ptr());
///     const auto output = model.run([&](auto& llama) { return llama.forward({.input_ids = ids}, {.labels = ids}); });
///     output.loss.backward();
///
/// Construction is a collective operation: it verifies that the replicas agree and gives them rank 0's values. Lost
/// connections and late ranks cause an error in forward or backward that names this rank.
template <typename Contained>
class DistributedDataParallel {
 public:
  explicit DistributedDataParallel(std::shared_ptr<Contained> module, const DataParallelOptions& options = {})
      : DistributedDataParallel(std::move(module), default_process_group(), options) {}
  DistributedDataParallel(std::shared_ptr<Contained> module, ProcessGroup group,
                          const DataParallelOptions& options = {})
      : module_(std::move(module)),
        steps_(std::make_unique<detail::DataParallelSteps>(module_, std::move(group), options)) {}

  /// The module's forward. Tensors among the arguments are moved to the module's device and cast to param_dtype.
  template <typename... Arguments>
  auto forward(const Arguments&... arguments) {
    return run([&](Contained& module) { return module.forward(prepared(arguments)...); });
  }
  template <typename... Arguments>
  auto operator()(const Arguments&... arguments) {
    return forward(arguments...);
  }

  /// The same for a forward whose arguments need braces: `forward` is called with the module.
  template <typename Forward>
  auto run(Forward&& forward) {
    steps_->before_forward();
    auto output = std::forward<Forward>(forward)(*module_);
    steps_->after_forward(detail::output_tensors(output));
    if constexpr (std::is_constructible_v<Value, const decltype(output)&>) {
      if (steps_->uses_sink()) {
        return steps_->through_sink(output).template to<decltype(output)>();
      }
    }
    return output;
  }

  /// For its lifetime, forward and backward accumulate gradients on this rank only; the first ones after it send the
  /// sum.
  class [[nodiscard]] NoSync {
   public:
    explicit NoSync(detail::DataParallelSteps& steps) : steps_(&steps), before_(steps.requires_sync()) {
      steps.set_require_sync(false);
    }
    NoSync(const NoSync&) = delete;
    NoSync& operator=(const NoSync&) = delete;
    ~NoSync() { steps_->set_require_sync(before_); }

   private:
    detail::DataParallelSteps* steps_;
    bool before_;
  };
  NoSync no_sync() { return NoSync(*steps_); }

  /// The order in which the last backward gave the trained parameters their gradients: their indices, counted without
  /// ignored and repeated ones. Empty before the first backward and with `find_unused_parameters`.
  ///
  /// The first step of a run sends its gradients in other buckets than the later ones, which know this order. With
  /// three ranks or more the layout of the buckets decides in which order a sum is added up. A run that resumes
  /// therefore sets the order of the run that it continues, so that its first step is bit-equal.
  std::vector<int64_t> gradient_order() const { return steps_->gradient_order(); }
  /// Throws unless `order` is empty or has each index once.
  void set_gradient_order(const std::vector<int64_t>& order) { steps_->set_gradient_order(order); }

  Contained& module() { return *module_; }
  const std::shared_ptr<Contained>& ptr() const { return module_; }

 private:
  template <typename Argument>
  Argument prepared(const Argument& argument) const {
    if constexpr (std::is_same_v<Argument, at::Tensor> || VisitableStruct<Argument>) {
      return steps_->prepared(argument).template to<Argument>();
    } else {
      return argument;
    }
  }

  std::shared_ptr<Contained> module_;
  std::unique_ptr<detail::DataParallelSteps> steps_;
};

}  // namespace transformers
