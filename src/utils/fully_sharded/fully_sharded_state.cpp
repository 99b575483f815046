// Fully sharded data parallelism, after torch/distributed/fsdp, torch 2.11: the hooks that decide when each unit is
// gathered, resharded and reduced. The life cycle is described in the header; ShardedUnit moves the data.
#include "utils/fully_sharded/fully_sharded_state.h"

#include <ATen/SequenceNumber.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/engine.h>
#include <torch/custom_class.h>
#include <transformers/utils/distributed/module_sync.h>

#include <map>

#include "utils/distributed/internal/agreement.h"
#include "utils/fully_sharded/unit_plan.h"

namespace transformers {
namespace {

namespace autograd = torch::autograd;
using Callback = std::function<void()>;

struct HeldCallback : torch::CustomClassHolder {
  explicit HeldCallback(Callback held) : callback(std::move(held)) {}
  Callback callback;
};

/// Returns its input. Its backward runs after that of everything that used the input, because the engine computes
/// gradients of parameters before those of inputs.
struct AfterBackward : autograd::Function<AfterBackward> {
  static at::Tensor forward(autograd::AutogradContext* context, const at::Tensor& input, const Callback& callback) {
    context->saved_data["callback"] = c10::IValue::make_capsule(c10::make_intrusive<HeldCallback>(callback));
    return input;
  }
  static autograd::variable_list backward(autograd::AutogradContext* context,
                                          const autograd::variable_list& gradients) {
    c10::static_intrusive_pointer_cast<HeldCallback>(context->saved_data["callback"].toCapsule())->callback();
    return {gradients[0], at::Tensor()};
  }
};

/// During backward, a forward runs only when activation checkpointing repeats it.
bool is_inside_backward() { return autograd::get_current_node() != nullptr; }

std::string text_of(const std::vector<PlannedUnit>& plan) {
  std::string text;
  for (const auto& unit : plan) {
    text += "'" + unit.name + "':";
    for (const auto& named : unit.parameters) {
      text += " " + named.name;
    }
    text += '\n';
  }
  return text;
}

}  // namespace

using State = FullyShardedModule::State;

State::State(std::shared_ptr<torch::nn::Module> of, ProcessGroup over, FullyShardedOptions with)
    : module(std::move(of)), group(std::move(over)), options(std::move(with)), device(group.device()) {}

void State::start() {
  std::vector<PlannedUnit> plan;
  check(plan);
  if (options.sync_module_states) {
    sync_buffers();
  }
  std::map<const void*, ShardedParameter> found;
  for (const auto& planned : plan) {
    units.push_back(std::make_unique<ShardedUnit>(planned.name, planned.parameters, group, options.mixed_precision,
                                                  options.sync_module_states));
    for (auto& parameter : units.back()->parameters()) {
      found.emplace(parameter.parameter.unsafeGetTensorImpl(), parameter);
    }
    first_root += planned.hooks != nullptr ? 1 : 0;
  }
  for (const auto& named : sharded_parameters_of(*module, options)) {
    parameters.push_back(found.at(named.parameter.unsafeGetTensorImpl()));
  }
  cast_buffers();
  for (size_t i = 0; i < first_root; ++i) {
    hook(i, *plan[i].hooks);
    next.push_back(i + 1 < first_root ? i + 1 : kNone);
    previous.push_back(i > 0 ? i - 1 : kNone);
  }
}

std::string State::complaint(std::vector<PlannedUnit>& plan) const {
  try {
    plan = plan_units(*module, options);
    for (const auto& unit : plan) {
      for (const auto& [name, parameter] : unit.parameters) {
        TORCH_CHECK(!parameter.is_meta() || (options.sync_module_states && group.rank() != 0),
                    "FullyShardedDataParallel: ", name,
                    " is on the meta device: only with sync_module_states may it be, on ranks other than 0");
      }
    }
  } catch (const c10::Error& error) {
    return error.what_without_backtrace();
  }
  return "";
}

/// The parameters are sent later, one unit at a time.
void State::sync_buffers() const {
  std::set<std::string> left_out;
  for (const auto& item : module->named_parameters()) {
    left_out.insert(item.key());
  }
  for (const auto& item : module->named_buffers()) {
    if (is_ignored(item.key(), options)) {
      left_out.insert(item.key());
    }
  }
  sync_module_states(*module, group, /*broadcast_bucket_size=*/25 << 20, /*src=*/0, left_out);
}

/// A fault on one rank becomes an error on all ranks, so that no rank waits for another.
void State::check(std::vector<PlannedUnit>& plan) const {
  agree(group, complaint(plan));
  std::vector<at::Tensor> tensors;
  std::vector<std::string> names;
  for (const auto& named : sharded_parameters_of(*module, options)) {
    tensors.push_back(named.parameter);
    names.push_back(named.name);
  }
  verify_param_shape_across_processes(group, tensors, names);
  const auto text = text_of(plan);
  agree(group, broadcast_text(group, text, /*src=*/0) == text
                   ? ""
                   : "the units of rank " + std::to_string(group.rank()) + " are not those of rank 0");
}

void State::cast_buffers() const {
  if (const auto dtype = options.mixed_precision.buffer_dtype) {
    for (auto& item : module->named_buffers()) {
      if (item.value().is_floating_point() && !is_ignored(item.key(), options)) {
        item.value().set_data(item.value().to(*dtype));
      }
    }
  }
}

void State::hook(size_t unit, ForwardHooks& hooks) {
  const auto self = weak_from_this();
  const auto before = [self, unit](const at::Tensor& input) {
    const auto state = self.lock();
    return state ? state->before_unit(unit, input) : at::Tensor();
  };
  const auto after = [self, unit](const at::Tensor&, const at::Tensor& output) {
    if (const auto state = self.lock()) {
      state->after_unit(unit, output);
    }
    return at::Tensor();
  };
  hook_ids.emplace_back(&hooks, hooks.register_forward_pre_hook(before, ForwardHooks::Owner::kObserver));
  hook_ids.emplace_back(&hooks, hooks.register_forward_hook(after, ForwardHooks::Owner::kObserver));
}

void State::remove_hooks() {
  for (const auto& [hooks, id] : hook_ids) {
    hooks->remove_forward_hook(id);
  }
}

void State::settle() {
  for (auto& unit : units) {
    unit->reshard();
    unit->abandon_backward();
  }
  in_backward = false;
}

void State::release_gathered(bool writeback) {
  for (auto& unit : units) {
    unit->release_gathered(writeback);
  }
}

void State::before_forward() {
  // The last backward may have thrown, or the last forward may have had no backward.
  settle();
  with_gradient = at::GradMode::is_enabled();
  last_called = kNone;
  calls.clear();
  for (size_t i = first_root; i < units.size(); ++i) {
    units[i]->unshard();
  }
}

at::Tensor State::before_unit(size_t unit, const at::Tensor& input) {
  units[unit]->unshard();
  if (is_inside_backward()) {
    units[unit]->begin_backward();
    prefetch(previous[unit], options.backward_prefetch);
  } else {
    note_order(unit);
    prefetch(next[unit], options.forward_prefetch);
    calls.push_back({.unit = unit, .begin = at::sequence_number::peek()});
  }
  if (!at::GradMode::is_enabled() || !input.requires_grad()) {
    return {};
  }
  return AfterBackward::apply(input, Callback([self = weak_from_this(), unit] {
                                if (const auto state = self.lock()) {
                                  state->after_unit_backward(unit);
                                }
                              }));
}

void State::after_unit(size_t unit, const at::Tensor& output) {
  if (is_inside_backward()) {
    return;  // the backward of this same call begins now
  }
  if (!calls.empty()) {
    calls.back().end = at::sequence_number::peek();
  }
  if (options.reshard_after_forward || !with_gradient) {
    units[unit]->reshard();
  }
  if (output.requires_grad()) {
    call_before_backward(output, unit);
  }
}

void State::note_order(size_t unit) {
  previous[unit] = last_called;
  if (last_called != kNone) {
    next[last_called] = unit;
  }
  last_called = unit;
}

void State::prefetch(size_t unit, bool wanted) const {
  if (wanted && unit != kNone) {
    units[unit]->prefetch();
  }
}

void State::after_forward(const std::optional<std::vector<at::Tensor>>& outputs) {
  for (auto& unit : units) {
    unit->drop_prefetch();
  }
  if (last_called != kNone) {
    next[last_called] = kNone;
  }
  if (!with_gradient) {
    settle();
    return;
  }
  TORCH_CHECK(outputs,
              "FullyShardedDataParallel needs to see the tensors in the output: give its type a visit_fields, ",
              "see Value");
  for (const auto& output : *outputs) {
    if (!output.defined() || !output.grad_fn()) {
      continue;
    }
    call_before_backward(output, units.size());
    // Some outputs, such as attentions, were made by a unit but are not the tensor that its hook sees.
    const auto number = output.grad_fn()->sequence_nr();
    for (const auto& call : calls) {
      if (number >= call.begin && number < call.end) {
        call_before_backward(output, call.unit);
      }
    }
  }
}

void State::call_before_backward(const at::Tensor& tensor, size_t unit) {
  tensor.register_hook([self = weak_from_this(), unit](const at::Tensor&) {
    const auto state = self.lock();
    TORCH_CHECK(state, "FullyShardedDataParallel has to live as long as backward");
    state->before_backward(unit);
  });
}

/// unit: units.size() stands for the module's own output, which needs only the root.
void State::before_backward(size_t unit) {
  const at::NoGradGuard no_grad;
  begin_backward();
  if (unit < units.size()) {
    units[unit]->unshard();
    units[unit]->begin_backward();
  }
  prefetch(unit < units.size() ? previous[unit] : last_called, options.backward_prefetch);
}

void State::begin_backward() {
  if (in_backward) {
    return;
  }
  in_backward = true;
  for (size_t i = first_root; i < units.size(); ++i) {
    units[i]->unshard();
    units[i]->begin_backward();
  }
  autograd::Engine::get_default_engine().queue_callback([self = weak_from_this()] {
    if (const auto state = self.lock()) {
      state->end_backward();
    }
  });
}

/// Only one reduction is in progress at a time: more would hold more memory.
void State::after_unit_backward(size_t unit) {
  const at::NoGradGuard no_grad;
  for (auto& other : units) {
    other->finish_reduction();
  }
  units[unit]->post_backward(require_sync);
}

void State::end_backward() {
  const at::NoGradGuard no_grad;
  for (size_t i = 0; i < units.size(); ++i) {
    after_unit_backward(i);
  }
  for (auto& unit : units) {
    unit->reshard();
    unit->end_backward();
  }
  in_backward = false;
}

}  // namespace transformers
