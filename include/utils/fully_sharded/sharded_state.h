#pragma once

#include <torch/optim/optimizer.h>
#include <transformers/export.h>
#include <transformers/utils/fully_sharded/fully_sharded.h>
#include <transformers/utils/fully_sharded/sharded_checkpoint.h>
#include <transformers/utils/modeling/pretrained_model.h>
#include <transformers/utils/nn/state_dict.h>

#include <optional>
#include <string>

namespace TRANSFORMERS_API transformers {

// State dicts of a fully sharded model: unsharded, for one process, or as the ranks hold them, for sharded checkpoints.
// `state_dict(model.module())` returns the rank's rows.

/// The unsharded state dict, on the CPU of rank `dst` or, without `dst`, of all ranks; empty on the others. All ranks
/// must call it. Beyond the result, one unit at a time is whole.
StateDict gather_state_dict(const FullyShardedModule& model, std::optional<int64_t> dst = 0);

/// Fills the rank's rows from an unsharded state dict that every rank passes; nothing is sent between ranks. Strict:
/// throws, changing nothing, on missing, unexpected and mis-shaped tensors.
void load_state_dict(FullyShardedModule& model, const StateDict& state);

/// `save_pretrained` of the unsharded model by rank 0 of the group, with one or more files per unit, so that no rank
/// holds more than one unit beyond its own rows. All ranks must call it; throws on all of them when rank 0 cannot
/// write.
void save_pretrained(const FullyShardedModule& model, const std::string& folder, const SaveOptions& options = {});

/// The model's part of a checkpoint, with names "model.<name>": the rank's rows of sharded parameters, and buffers and
/// ignored parameters as a whole. A tied parameter is listed under its first name. The tensors are the model's own, for
/// saving or for loading into them.
ShardedState checkpoint_state(const FullyShardedModule& model);
/// The same for a model in one process.
ShardedState checkpoint_state(const torch::nn::Module& module);

/// The optimizer's part, "optimizer.<name>.<state>". `state`: the `state_dict()` of one of the library's optimizers,
/// "<index>.<state>". States that have the shape of the rank's rows are split as the parameter is, and scalars are the
/// same on all ranks. Throws on others, such as Adafactor's rows and columns, which cannot be split.
ShardedState checkpoint_state(const FullyShardedModule& model, const torch::optim::Optimizer& optimizer,
                              const StateDict& state);
ShardedState checkpoint_state(const torch::nn::Module& module, const torch::optim::Optimizer& optimizer,
                              const StateDict& state);

/// The state for the optimizer's `load_state_dict`, for the rank's rows.
StateDict optimizer_state(const ShardedCheckpoint& checkpoint, const FullyShardedModule& model,
                          const torch::optim::Optimizer& optimizer);
/// The same for a model in one process.
StateDict optimizer_state(const ShardedCheckpoint& checkpoint, const torch::nn::Module& module,
                          const torch::optim::Optimizer& optimizer);

}  // namespace transformers
