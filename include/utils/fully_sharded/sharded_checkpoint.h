#pragma once

#include <ATen/core/Tensor.h>
#include <transformers/export.h>
#include <transformers/utils/distributed/process_group.h>
#include <transformers/utils/io/safetensors.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace TRANSFORMERS_API transformers {

// Checkpoints that ranks write together, each its part, and that any number of ranks reads, as
// torch.distributed.checkpoint does. The format is our own: safetensors files and an index,
// sharded_checkpoint.index.json, that says which of them hold which slices of which tensors.

struct CheckpointIndex;

/// What a rank holds of a tensor: entries [start, start + local.size(dim)) of one dimension. May be all of it, and may
/// be what other ranks hold too.
struct ShardedTensor {
  at::Tensor local{};
  std::vector<int64_t> sizes{};  // of the whole
  int64_t dim = 0;
  int64_t start = 0;
};
using ShardedState = std::map<std::string, ShardedTensor>;

/// A tensor that a rank holds whole.
ShardedTensor whole_tensor(const at::Tensor& tensor);

/// Writes a state into `folder`, which all ranks reach; rank 0 creates it where its parent is. Names differ by rank
/// only where a rank holds nothing of a tensor; what several ranks hold is written by the first of them. All or
/// nothing: an earlier checkpoint in the folder stays what is read until every rank is done, and goes after that.
/// metadata: what else there is to know, e.g. {"step", "100"}.
///
/// All ranks call it. Throws on all of them when one cannot write, when they disagree on shape or dtype of a tensor,
/// and when their slices do not make up the whole.
void save_sharded_checkpoint(const std::string& folder, const ProcessGroup& group, const ShardedState& state,
                             const std::map<std::string, std::string>& metadata = {});

/// A checkpoint to read from, by however many processes. Opening it opens and checks every file but the values: that
/// all parts are there, whole, of one save, and as the index says.
class ShardedCheckpoint {
 public:
  /// Whether a save into the folder was ever completed: parts alone are those of one that was not.
  static bool exists(const std::string& folder);

  explicit ShardedCheckpoint(const std::string& folder);
  /// The same on every rank of a group; throws on all of them when one cannot read it.
  ShardedCheckpoint(const std::string& folder, const ProcessGroup& group);

  const std::string& folder() const { return folder_; }
  const std::map<std::string, std::string>& metadata() const;
  std::vector<std::string> names() const;
  bool contains(const std::string& name) const;
  const std::vector<int64_t>& sizes(const std::string& name) const;
  c10::ScalarType dtype(const std::string& name) const;

  /// On the CPU, in memory of its own.
  at::Tensor tensor(const std::string& name) const;
  /// Entries [start, start + length) of a dimension, of which nothing else is read.
  at::Tensor slice(const std::string& name, int64_t dim, int64_t start, int64_t length) const;

 private:
  void open();

  std::string folder_;
  std::shared_ptr<const CheckpointIndex> index_;
  std::map<std::string, std::unique_ptr<SafetensorsFile>> files_;
};

/// Copies what a state has slices of into them, converting dtypes. Throws, changing nothing, on names that the
/// checkpoint lacks and on other shapes, naming them.
void load_sharded_checkpoint(const ShardedCheckpoint& checkpoint, const ShardedState& into);
/// The same on every rank of a group; throws on all of them when it does on one.
void load_sharded_checkpoint(const ShardedCheckpoint& checkpoint, const ProcessGroup& group, const ShardedState& into);

}  // namespace transformers
