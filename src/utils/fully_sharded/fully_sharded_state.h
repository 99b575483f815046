#pragma once

// Decides when the units of a fully sharded module are gathered, freed and reduced; ShardedUnit moves the data. Between
// steps each rank holds only its rows of every parameter. The life cycle of a unit in one training step:
//
//   gather    before_forward() gathers the units of the root. Any other unit is gathered by the pre-hook of its module,
//             which also starts the all-gather of the unit that came next in the last forward (forward_prefetch).
//   forward   The module computes with whole parameters.
//   reshard   The forward hook frees the whole parameters again, if reshard_after_forward is set or no gradients are
//             recorded, and puts a hook on the unit's output. The root keeps its parameters, as backward begins with
//             it.
//   regather  That hook gathers the unit when its backward begins, sets aside the gradients its rows already have, and
//             starts the all-gather of the unit before it (backward_prefetch). With activation checkpointing, the
//             pre-hook of the repeated forward does the same.
//   reduce    AfterBackward, a node in front of the unit's input, runs when the unit's backward is done. The previous
//             reduction is awaited, then the whole gradients are sent and the whole parameters freed. Under no_sync()
//             whole gradients stay on this rank instead.
//   end       A callback at the end of backward reduces every unit that no such node reached (the root, and units whose
//             input needs no gradient), frees what is still whole, and gives the parameters the gradients of their
//             rows, which is what the optimizer sees.
//
// settle() brings everything back to the state between steps, also after a backward that threw and after a forward that
// no backward followed.

#include <transformers/utils/nn/forward_hooks.h>

#include "utils/fully_sharded/sharded_unit.h"

namespace transformers {

/// The state of a fully sharded module and the hooks on its units; see the life cycle above.
struct FullyShardedModule::State : std::enable_shared_from_this<FullyShardedModule::State> {
  State(std::shared_ptr<torch::nn::Module> module, ProcessGroup group, FullyShardedOptions options);

  /// Splits the module. The second part of construction, as shared_from_this does not work in a constructor.
  void start();
  void remove_hooks();

  void before_forward();
  void after_forward(const std::optional<std::vector<at::Tensor>>& outputs);
  /// Establishes the state between backward and forward: no unit is whole, and no message is in progress.
  void settle();
  /// Ends summon_full_params, in all units in which it has begun.
  void release_gathered(bool writeback);

  std::shared_ptr<torch::nn::Module> module;
  ProcessGroup group;
  FullyShardedOptions options;
  c10::Device device;
  std::vector<std::unique_ptr<ShardedUnit>> units{};
  std::vector<ShardedParameter> parameters{};  // in the module's order
  bool require_sync = true;

 private:
  /// A call of a unit, with the range of sequence numbers of the autograd nodes that it made.
  struct Call {
    size_t unit = 0;
    uint64_t begin = 0, end = 0;
  };
  static constexpr size_t kNone = -1;

  std::string complaint(std::vector<struct PlannedUnit>& plan) const;
  void check(std::vector<struct PlannedUnit>& plan) const;
  void sync_buffers() const;
  void cast_buffers() const;
  void hook(size_t unit, ForwardHooks& hooks);
  at::Tensor before_unit(size_t unit, const at::Tensor& input);
  void after_unit(size_t unit, const at::Tensor& output);
  void note_order(size_t unit);
  void prefetch(size_t unit, bool wanted) const;
  void call_before_backward(const at::Tensor& tensor, size_t unit);
  void before_backward(size_t unit);
  void begin_backward();
  void after_unit_backward(size_t unit);
  void end_backward();

  std::vector<std::pair<ForwardHooks*, ForwardHooks::HookId>> hook_ids;
  size_t first_root = 0;                   // the root's units, one per dtype, come last
  std::vector<size_t> next{}, previous{};  // in the order of the last forward
  size_t last_called = kNone;
  std::vector<Call> calls{};  // of this forward
  bool with_gradient = false;
  bool in_backward = false;
};

}  // namespace transformers
