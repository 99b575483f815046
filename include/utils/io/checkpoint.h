#pragma once

/// \file
/// The room utils/io reads and writes files of tensors: safetensors, the files of torch.save, and the sharded weights
/// of a Hugging Face folder. It deals in names and tensors and does not know models; `from_pretrained` and
/// `save_pretrained` in utils/modeling build on it.
///
///     const Checkpoint checkpoint("llama-2-7b");
///     const at::Tensor weight = checkpoint.tensor("lm_head.weight");
///     save_checkpoint("copy", state_dict(*model));

#include <c10/util/Exception.h>  // ordered_dict.h needs it and does not include it
#include <torch/ordered_dict.h>
#include <transformers/export.h>
#include <transformers/utils/files/model_folder.h>
#include <transformers/utils/io/tensor_file.h>

#include <functional>
#include <map>
#include <memory>
#include <string_view>
#include <unordered_map>

namespace TRANSFORMERS_API transformers {

class SaveTransaction;

/// One tensor of a checkpoint and the name of the file that holds it.
struct CheckpointTensor : TensorInfo {
  std::string file;
};

/// The weights of a Hugging Face folder in any of its formats. The constructor opens and checks every file, so that no
/// header error can occur once the first tensor is used. Warns (TORCH_WARN) about oddities that are harmless. If the
/// folder is saved into at the same time, the result is the old weights or the new ones, never a mixture.
class Checkpoint {
 public:
  /// Opens the first of model.safetensors, model.safetensors.index.json, pytorch_model.bin and
  /// pytorch_model.bin.index.json that the folder holds; with a `variant` their names contain it as in HF
  /// (model.fp16.safetensors, model.safetensors.index.fp16.json, ...).
  explicit Checkpoint(const ModelFolder& folder, const std::string& variant = "");

  /// Name, dtype, shape, bytes and file of each tensor, file by file in the order of their data.
  const std::vector<CheckpointTensor>& tensors() const { return tensors_; }
  bool contains(const std::string& name) const { return positions_.contains(name); }
  /// See TensorFile::tensor.
  at::Tensor tensor(const std::string& name) const;
  /// See TensorFile::drop_pages.
  void drop_pages(const std::string& name) const;

  /// Bytes of all weights; memory that several names share counts once.
  int64_t bytes() const;
  /// Names of the weight files, sorted.
  std::vector<std::string> files() const;
  /// Tensors in shards that the index does not list. They are not among tensors().
  const std::vector<std::string>& unlisted() const { return unlisted_; }
  /// Entries of a pytorch_model.bin that are not tensors, with their kind.
  std::vector<std::string> skipped() const;

 private:
  void open(const std::string& inserted);
  void open_single(const std::string& name);
  void open_sharded(const std::string& index_name);
  void clear();
  void open_listed(const std::map<std::string, std::string>& weight_map, const std::string& index_path);
  void open_file(const std::string& name);
  void add_tensors(const std::map<std::string, std::string>& weight_map);
  const CheckpointTensor& found(const std::string& name) const;

  std::string folder_;
  std::map<std::string, std::unique_ptr<TensorFile>> files_;
  std::vector<CheckpointTensor> tensors_;
  std::unordered_map<std::string, size_t> positions_;
  std::vector<std::string> unlisted_;
};

struct SaveCheckpointOptions {
  /// Largest file in bytes, 5 GB (decimal) as in HF; a larger tensor gets a file of its own.
  int64_t max_shard_size = 5'000'000'000;
  std::map<std::string, std::string> metadata = {{"format", "pt"}};
};

/// Writes model.safetensors, or shards and model.safetensors.index.json, as HF's `save_pretrained` does: shards are
/// filled in the order of `state`, tensors with several names are stored once, under the first of them, and views of
/// one storage share a shard. Weight files of an earlier save that the new one does not use are removed. The save takes
/// effect atomically, see SaveTransaction. The folder may be the one that `state` was loaded from.
void save_checkpoint(const std::string& folder, const torch::OrderedDict<std::string, at::Tensor>& state,
                     const SaveCheckpointOptions& options = {});

/// The same as part of a larger save, which takes effect with `save.commit()`.
void add_checkpoint(SaveTransaction& save, const torch::OrderedDict<std::string, at::Tensor>& state,
                    const SaveCheckpointOptions& options = {});

/// The same with `count` files whose tensors are made only when their file is written, in order, so that the tensors of
/// one file need memory at a time. No name may be used twice, and no element may have two names.
void add_checkpoint_files(SaveTransaction& save, size_t count,
                          const std::function<torch::OrderedDict<std::string, at::Tensor>(size_t)>& tensors_of,
                          const std::map<std::string, std::string>& metadata = {{"format", "pt"}});

/// Parses sizes in bytes such as "5GB", "500MB", "2GiB", "1.5 kB", "1024": units are decimal, those with an i binary.
int64_t parse_size(std::string_view text);

}  // namespace transformers
