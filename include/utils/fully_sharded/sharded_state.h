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

// The states of a fully sharded model: whole, for one process, or as the ranks hold them, for sharded checkpoints.
// `state_dict(model.module())` gives the rank's rows.

/// The whole state dict, on the CPU of rank `dst` or, without one, of all ranks; empty on the others. All ranks call
/// it. Beyond the result one unit at a time is whole.
StateDict gather_state_dict(const FullyShardedModule& model, std::optional<int64_t> dst = 0);

/// Fills the rank's rows from a whole state dict, which every rank has, in part at least: nothing is sent. Strict.
/// Throws, changing nothing, on missing, unexpected and mis-shaped tensors.
void load_state_dict(FullyShardedModule& model, const StateDict& state);

/// `save_pretrained` of the whole model, by rank 0 of the group, in one file a unit or more: no rank holds more than a
/// unit beyond its own rows. All ranks call it; throws on all of them when rank 0 cannot write.
void save_pretrained(const FullyShardedModule& model, const std::string& folder, const SaveOptions& options = {});

/// The model's part of a checkpoint, "model.<name>": the rank's rows of what is sharded; buffers and what is ignored
/// whole. A tied parameter stands under its first name. The tensors are the model's own, to be saved or loaded into.
ShardedState checkpoint_state(const FullyShardedModule& model);
/// The same for a model in one process.
ShardedState checkpoint_state(const torch::nn::Module& module);

/// The optimizer's part, "optimizer.<name>.<state>". `state`: the `state_dict()` of one of the library's optimizers,
/// "<index>.<state>". States that have the shape of the rank's rows are spread as the parameter is, scalars the same on
/// all ranks; others, such as Adafactor's rows and columns, cannot be spread and throw.
ShardedState checkpoint_state(const FullyShardedModule& model, const torch::optim::Optimizer& optimizer,
                              const StateDict& state);
ShardedState checkpoint_state(const torch::nn::Module& module, const torch::optim::Optimizer& optimizer,
                              const StateDict& state);

/// What the optimizer's `load_state_dict` takes, of the rank's rows.
StateDict optimizer_state(const ShardedCheckpoint& checkpoint, const FullyShardedModule& model,
                          const torch::optim::Optimizer& optimizer);
/// The same for a model in one process.
StateDict optimizer_state(const ShardedCheckpoint& checkpoint, const torch::nn::Module& module,
                          const torch::optim::Optimizer& optimizer);

}  // namespace transformers
