// Data parallelism over c10d's Reducer, after torch/nn/parallel/distributed.py, torch 2.11. The life of a step: before
// the forward, the ranks agree on it and buffers are broadcast; after it, the Reducer is prepared for backward; during
// backward it averages each bucket of gradients as soon as it is full.
#include <c10/util/Exception.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/nn/modules/embedding.h>
#include <transformers/utils/distributed/data_parallel.h>
#include <transformers/utils/distributed/module_sync.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <torch/csrc/distributed/c10d/reducer.hpp>
#include <unordered_set>

#include "utils/distributed/backward_end.h"
#include "utils/distributed/gradient_hook.h"
#include "utils/distributed/internal/agreement.h"
#include "utils/distributed/internal/c10d_handles.h"
#include "utils/distributed/internal/c10d_versions.h"
#include "utils/distributed/internal/collective_check.h"
#include "utils/distributed/internal/collective_error.h"
#include "utils/distributed/low_precision_parameters.h"

namespace transformers::detail {
namespace {

// The same values as in torch.
constexpr int64_t kBroadcastBucketBytes = 250 << 20;
constexpr int64_t kFirstBucketBytes = 1 << 20;
constexpr int64_t kBucketBytes = 25 << 20;

using autograd_context = torch::autograd::AutogradContext;

/// Returns its inputs. In backward, outputs that the loss does not use get an undefined gradient and not none at all,
/// so that each parameter of the forward reports to the reducer.
struct Sink : torch::autograd::Function<Sink> {
  static torch::autograd::variable_list forward(autograd_context* context, at::TensorList tensors) {
    context->set_materialize_grads(false);
    torch::autograd::variable_list outputs;
    for (const auto& tensor : tensors) {
      outputs.push_back(tensor.clone());
    }
    return outputs;
  }
  static torch::autograd::variable_list backward(autograd_context*, torch::autograd::variable_list gradients) {
    return gradients;
  }
};

struct NamedTensors {
  std::vector<std::string> names{};
  std::vector<at::Tensor> tensors{};
  std::vector<bool> sparse{};
};

/// The parameters of embeddings with `sparse` set.
std::unordered_set<const void*> sparse_parameters(const torch::nn::Module& module) {
  std::unordered_set<const void*> sparse;
  for (const auto& child : module.modules()) {
    const auto* embedding = child->as<torch::nn::EmbeddingImpl>();
    const auto* bag = child->as<torch::nn::EmbeddingBagImpl>();
    if (embedding && embedding->options.sparse()) {
      sparse.insert(embedding->weight.unsafeGetTensorImpl());
    }
    if (bag && bag->options.sparse()) {
      sparse.insert(bag->weight.unsafeGetTensorImpl());
    }
  }
  return sparse;
}

/// Each parameter once, tied ones under their first name.
NamedTensors parameters_of(const torch::nn::Module& module, const std::set<std::string>& ignored, bool trained_only) {
  const auto sparse = sparse_parameters(module);
  std::unordered_set<const void*> seen;
  NamedTensors found;
  for (const auto& item : module.named_parameters()) {
    const auto& parameter = item.value();
    if (ignored.contains(item.key()) || (trained_only && !parameter.requires_grad()) ||
        !seen.insert(parameter.unsafeGetTensorImpl()).second) {
      continue;
    }
    found.names.push_back(item.key());
    found.tensors.push_back(parameter);
    found.sparse.push_back(sparse.contains(parameter.unsafeGetTensorImpl()));
  }
  return found;
}

std::vector<at::Tensor> buffers_of(const torch::nn::Module& module, const std::set<std::string>& ignored) {
  std::vector<at::Tensor> buffers;
  for (const auto& item : module.named_buffers()) {
    if (!ignored.contains(item.key())) {
      buffers.push_back(item.value());
    }
  }
  return buffers;
}

void check_floating(const char* field, std::optional<c10::ScalarType> dtype) {
  TORCH_CHECK(!dtype || c10::isFloatingType(*dtype), "MixedPrecision: ", field, " must be a floating type, got ",
              *dtype);
}

void check_options(const DataParallelOptions& options) {
  const auto cap = options.bucket_cap_mb.value_or(1);
  TORCH_CHECK(std::isfinite(cap) && cap > 0 && cap < 1e9, "bucket_cap_mb must be above 0, got ", cap);
  check_floating("param_dtype", options.mixed_precision.param_dtype);
  check_floating("reduce_dtype", options.mixed_precision.reduce_dtype);
  check_floating("buffer_dtype", options.mixed_precision.buffer_dtype);
}

void check_parameters(const NamedTensors& trained) {
  TORCH_CHECK(!trained.tensors.empty(), "DistributedDataParallel needs a parameter that requires a gradient");
  const auto device = trained.tensors[0].device();
  for (size_t i = 0; i < trained.tensors.size(); ++i) {
    TORCH_CHECK(!trained.tensors[i].is_meta(), "DistributedDataParallel needs parameters with memory, '",
                trained.names[i], "' is on the meta device");
    TORCH_CHECK(trained.tensors[i].device() == device, "DistributedDataParallel needs all parameters on one device, '",
                trained.names[0], "' is on ", device, ", '", trained.names[i], "' on ", trained.tensors[i].device());
  }
}

ReducerPlan reducer_plan(const NamedTensors& trained, const ProcessGroup& group, const DataParallelOptions& options) {
  const auto cap = options.bucket_cap_mb ? std::max<int64_t>(1, std::llround(*options.bucket_cap_mb * (1 << 20))) : 0;
  return {.parameters = trained.tensors,
          .names = trained.names,
          .sparse_gradients = trained.sparse,
          .group = group.handle().group,
          .first_bucket_bytes = cap ? cap : kFirstBucketBytes,
          .bucket_bytes = cap ? cap : kBucketBytes,
          .find_unused_parameters = options.find_unused_parameters,
          .gradient_as_bucket_view = options.gradient_as_bucket_view};
}

void check_permutation(std::vector<int64_t> order, size_t count) {
  std::ranges::sort(order);
  bool has_each_once = order.size() == count;
  for (size_t i = 0; has_each_once && i < count; ++i) {
    has_each_once = order[i] == static_cast<int64_t>(i);
  }
  TORCH_CHECK(has_each_once, "DistributedDataParallel: the order of gradients must have each of the ", count,
              " trained parameters once");
}

std::vector<at::Tensor> floating(const std::vector<at::Tensor>& tensors) {
  std::vector<at::Tensor> result;
  for (const auto& tensor : tensors) {
    if (tensor.is_floating_point()) {
      result.push_back(tensor);
    }
  }
  return result;
}

}  // namespace

struct DataParallelSteps::State {
  std::shared_ptr<torch::nn::Module> module;
  ProcessGroup group;
  DataParallelOptions options;
  c10::Device device = c10::kCPU;
  std::vector<at::Tensor> buffers{};
  std::unique_ptr<LowPrecisionParameters> low_precision{};  // null if param_dtype is unset
  std::shared_ptr<BackwardEnd> backward_end{};
  std::shared_ptr<c10d::Reducer> reducer{};
  bool require_backward_sync = true;
  bool require_forward_sync = true;
  int64_t steps = 0;
  bool has_stepped = false;               // a synchronised backward was prepared
  std::vector<int64_t> gradient_order{};  // as set; until the first step there is no newer one
  bool awaits_gradients = false;          // between a forward that is synchronised and its last bucket
  bool is_unfinished = false;             // a backward ended before all buckets were reduced

  void start();
  void check(const NamedTensors& trained) const;
  void synchronise(const NamedTensors& trained) const;
  void build_reducer(const NamedTensors& trained);
  void end_backward(const std::vector<at::Tensor>& trained);
  void check_finished() const;
  /// Runs c10d's part of a step; its errors name this rank.
  template <typename Run>
  auto step(Run&& run) const {
    return naming_rank(group.rank(), group.size(), "DistributedDataParallel", std::forward<Run>(run));
  }
};

void DataParallelSteps::State::start() {
  const auto trained = parameters_of(*module, options.parameters_to_ignore, /*trained_only=*/true);
  check(trained);
  device = trained.tensors[0].device();
  buffers = buffers_of(*module, options.parameters_to_ignore);
  if (options.init_sync) {
    synchronise(trained);
  }
  if (const auto dtype = options.mixed_precision.buffer_dtype) {
    for (auto& buffer : floating(buffers)) {
      buffer.set_data(buffer.to(*dtype));
    }
  }
  if (const auto dtype = options.mixed_precision.param_dtype) {
    const auto all = parameters_of(*module, options.parameters_to_ignore, /*trained_only=*/false);
    low_precision = std::make_unique<LowPrecisionParameters>(floating(all.tensors), *dtype);
  }
  // Built while the parameters have the dtype that they have in backward.
  backward_end =
      BackwardEnd::watch(trained.tensors, [this, parameters = trained.tensors] { end_backward(parameters); });
  build_reducer(trained);
  if (low_precision) {
    low_precision->use_full();
  }
}

/// A fault on one rank becomes an error on all ranks, so that no rank waits for another.
void DataParallelSteps::State::check(const NamedTensors& trained) const {
  std::string complaint;
  try {
    check_options(options);
    check_parameters(trained);
  } catch (const c10::Error& error) {
    if (!options.init_sync) {
      throw;
    }
    complaint = error.what_without_backtrace();
  }
  if (options.init_sync) {
    agree(group, complaint);
  }
}

void DataParallelSteps::State::synchronise(const NamedTensors& trained) const {
  verify_param_shape_across_processes(group, trained.tensors, trained.names);
  sync_module_states(*module, group, kBroadcastBucketBytes, /*src=*/0, options.parameters_to_ignore,
                     options.broadcast_buffers);
}

void DataParallelSteps::State::build_reducer(const NamedTensors& trained) {
  const auto& precision = options.mixed_precision;
  auto plan = reducer_plan(trained, group, options);
  plan.gradient_order = gradient_order;
  reducer = nullptr;  // its hooks go before others come
  reducer = make_reducer(plan);
  reducer->register_comm_hook(
      std::make_unique<AverageGradients>(group, precision.reduce_dtype ? precision.reduce_dtype : precision.param_dtype,
                                         [this] { awaits_gradients = false; }));
}

/// If one rank skipped a parameter, the ranks wait for different collectives. The rank that skipped it gets an error
/// here, before it waits for others; the message of the reducer names what is missing.
void DataParallelSteps::State::check_finished() const {
  if (is_unfinished) {
    step([&] { reducer->rebuild_buckets(); });
  }
}

void DataParallelSteps::State::end_backward(const std::vector<at::Tensor>& trained) {
  is_unfinished = awaits_gradients;
  if (options.gradient_as_bucket_view) {
    // The gradient shares the memory but is not a view in autograd: LibTorch's zero_grad detaches gradients in place,
    // which views refuse.
    for (const auto& parameter : trained) {
      if (auto& gradient = parameter.mutable_grad(); gradient.defined()) {
        gradient = gradient.variable_data();
      }
    }
  }
  if (low_precision) {
    low_precision->use_full();
  }
}

DataParallelSteps::DataParallelSteps(std::shared_ptr<torch::nn::Module> module, ProcessGroup group,
                                     const DataParallelOptions& options) {
  TORCH_CHECK(module, "DistributedDataParallel needs a module");
  state_ = std::make_unique<State>(State{std::move(module), std::move(group), options});
  state_->start();
}

DataParallelSteps::~DataParallelSteps() = default;

Value DataParallelSteps::prepared(const Value& input) const {
  const auto moved =
      state_->device.is_cpu() ? input : recursive_to(input, state_->device, /*use_side_stream_for_tensor_copies=*/true);
  return cast_forward_inputs(state_->options.mixed_precision.param_dtype, {moved}).args[0];
}

void DataParallelSteps::before_forward() {
  auto& state = *state_;
  const bool backward_follows = at::GradMode::is_enabled() && state.require_backward_sync;
  const bool sends_buffers = state.require_forward_sync && state.options.broadcast_buffers && !state.buffers.empty();
  if (backward_follows) {
    state.check_finished();
    // The collectives of backward are not compared, because they follow from what the ranks agree on here.
    check_same_operation(state.group, "DistributedDataParallel forward " + std::to_string(state.steps++));
  }
  (*state.backward_end).reset();
  state.step([&] {
    if (state.low_precision) {
      state.low_precision->use_low();
    }
    if (backward_follows) {
      state.reducer->prepare_for_forward();
    }
    if (at::GradMode::is_enabled()) {
      state.reducer->rebuild_buckets();
    }
  });
  if (sends_buffers) {
    sync_params_and_buffers(state.group, state.buffers, kBroadcastBucketBytes, /*src=*/0);
  }
}

void DataParallelSteps::after_forward(const std::optional<std::vector<at::Tensor>>& outputs) {
  auto& state = *state_;
  TORCH_CHECK(outputs || !state.options.find_unused_parameters,
              "find_unused_parameters needs to see the tensors in the output: give its type a visit_fields, see Value");
  const bool backward_follows = at::GradMode::is_enabled() && state.require_backward_sync;
  if (backward_follows) {
    state.step([&] {
      state.reducer->prepare_for_backward(state.options.find_unused_parameters ? *outputs : std::vector<at::Tensor>());
    });
    state.awaits_gradients = true;
    state.has_stepped = true;
  }
  state.require_forward_sync = backward_follows;
  if (state.low_precision && !at::GradMode::is_enabled()) {
    state.low_precision->use_full();
  }
}

bool DataParallelSteps::uses_sink() const {
  return state_->options.find_unused_parameters && at::GradMode::is_enabled() && state_->require_backward_sync;
}

Value DataParallelSteps::through_sink(const Value& output) const {
  std::vector<at::Tensor> tensors;
  for (const auto& tensor : tensors_in(output)) {
    if (tensor.grad_fn()) {
      tensors.push_back(tensor);
    }
  }
  if (tensors.empty()) {
    return output;
  }
  const auto passed = Sink::apply(at::TensorList(tensors));
  size_t next = 0;
  return apply_to_tensors([&](const at::Tensor& tensor) { return tensor.grad_fn() ? passed[next++] : tensor; }, output);
}

void DataParallelSteps::set_require_sync(bool require) { state_->require_backward_sync = require; }
bool DataParallelSteps::requires_sync() const { return state_->require_backward_sync; }

std::vector<int64_t> DataParallelSteps::gradient_order() const {
  if (!state_->has_stepped || state_->options.find_unused_parameters) {
    return state_->gradient_order;
  }
  const auto times = state_->reducer->get_backward_stats();
  std::vector<int64_t> order(times.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, {}, [&](int64_t index) { return times[static_cast<size_t>(index)]; });
  return order;
}

void DataParallelSteps::set_gradient_order(const std::vector<int64_t>& order) {
  auto& state = *state_;
  if (order.empty() || state.options.find_unused_parameters) {
    return;
  }
  const auto trained = parameters_of(*state.module, state.options.parameters_to_ignore, /*trained_only=*/true);
  check_permutation(order, trained.tensors.size());
  state.gradient_order = order;
  if (state.low_precision) {
    state.low_precision->use_low();
  }
  state.build_reducer(trained);
  if (state.low_precision) {
    state.low_precision->use_full();
  }
}

}  // namespace transformers::detail
