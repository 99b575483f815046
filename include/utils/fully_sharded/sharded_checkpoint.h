#pragma once

#include <ATen/core/Tensor.h>
#include <transformers/export.h>
#include <transformers/utils/distributed/process_group.h>
#include <transformers/utils/io/safetensors.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace transformers {
struct CheckpointIndex;
}  // namespace transformers

namespace TRANSFORMERS_API transformers {

// Checkpoints of which each rank writes its part and which any number of ranks can read, as with
// torch.distributed.checkpoint. The format is specific to this library: safetensors files and an index,
// sharded_checkpoint.index.json, which lists the slices of each tensor and the files that hold them.

/// The part of a tensor that a rank holds: entries [start, start + local.size(dim)) of one dimension. It may be the
/// whole tensor, and other ranks may hold the same part.
struct ShardedTensor {
  at::Tensor local{};
  std::vector<int64_t> sizes{};  // of the unsharded tensor
  int64_t dim = 0;
  int64_t start = 0;
};
using ShardedState = std::map<std::string, ShardedTensor>;

/// A tensor that the rank holds completely.
ShardedTensor whole_tensor(const at::Tensor& tensor);

/// Writes a state into `folder`, which all ranks must be able to access; rank 0 creates it if its parent exists. Names
/// may differ between ranks only where a rank holds nothing of a tensor; a slice that several ranks hold is written by
/// the first of them. The save takes effect atomically: an earlier checkpoint in the folder is what readers find until
/// every rank is done, and is removed afterwards. metadata: any additional values, e.g. {"step", "100"}.
///
/// All ranks must call it. Throws on all of them when one cannot write, when they disagree on shape or dtype of a
/// tensor, and when their slices do not make up the whole tensor.
void save_sharded_checkpoint(const std::string& folder, const ProcessGroup& group, const ShardedState& state,
                             const std::map<std::string, std::string>& metadata = {});

/// Reads a checkpoint, in any number of processes. Opening it checks everything but the values: that all parts exist,
/// are complete, belong to the same save and match the index.
class ShardedCheckpoint {
 public:
  /// Whether a save into the folder was ever completed. Parts without an index are those of an incomplete save.
  static bool exists(const std::string& folder);

  explicit ShardedCheckpoint(const std::string& folder);
  /// The same on every rank of a group; throws on all ranks when one cannot read it.
  ShardedCheckpoint(const std::string& folder, const ProcessGroup& group);

  const std::string& folder() const { return folder_; }
  const std::map<std::string, std::string>& metadata() const;
  std::vector<std::string> names() const;
  bool contains(const std::string& name) const;
  const std::vector<int64_t>& sizes(const std::string& name) const;
  c10::ScalarType dtype(const std::string& name) const;

  /// The whole tensor, as a copy on the CPU.
  at::Tensor tensor(const std::string& name) const;
  /// Entries [start, start + length) of a dimension; nothing else is read.
  at::Tensor slice(const std::string& name, int64_t dim, int64_t start, int64_t length) const;

 private:
  void open();

  std::string folder_;
  std::shared_ptr<const CheckpointIndex> index_;
  std::map<std::string, std::unique_ptr<SafetensorsFile>> files_;
};

/// Copies the values of the checkpoint into the slices of a state, converting dtypes. Throws, changing nothing, on
/// names that the checkpoint lacks and on other shapes, naming them.
void load_sharded_checkpoint(const ShardedCheckpoint& checkpoint, const ShardedState& into);
/// The same on every rank of a group; throws on all ranks when it throws on one.
void load_sharded_checkpoint(const ShardedCheckpoint& checkpoint, const ProcessGroup& group, const ShardedState& into);

}  // namespace transformers
