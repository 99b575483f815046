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

/// The weights of a Hugging Face folder, whichever way they are stored. Opening it opens and checks every file, so that
/// nothing can fail on a header once the first tensor is used. Warns (TORCH_WARN) about what is odd but harmless.
/// A folder that is saved into at the same time gives the old weights or the new ones, never a mixture.
class Checkpoint {
 public:
  /// Takes the first of model.safetensors, model.safetensors.index.json, pytorch_model.bin and
  /// pytorch_model.bin.index.json that the folder holds; with a `variant` their names carry it as in HF
  /// (model.fp16.safetensors, model.safetensors.index.fp16.json, ...).
  explicit Checkpoint(const ModelFolder& folder, const std::string& variant = "");

  /// Name, dtype, shape, bytes and file of each tensor, file by file in the order of their data.
  const std::vector<CheckpointTensor>& tensors() const { return tensors_; }
  bool contains(const std::string& name) const { return positions_.contains(name); }
  /// See TensorFile::tensor.
  at::Tensor tensor(const std::string& name) const;
  /// See TensorFile::drop_pages.
  void drop_pages(const std::string& name) const;

  /// Bytes of all weights, with memory that several names share counted once.
  int64_t bytes() const;
  /// Names of the files the weights lie in, sorted.
  std::vector<std::string> files() const;
  /// Tensors that a shard holds and the index does not list. They are not among tensors().
  const std::vector<std::string>& unlisted() const { return unlisted_; }
  /// Entries of a pytorch_model.bin that are no tensors, with their kind.
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
  /// Largest file in bytes, 5 GB (decimal) as in HF; a single larger tensor gets a file of its own.
  int64_t max_shard_size = 5'000'000'000;
  std::map<std::string, std::string> metadata = {{"format", "pt"}};
};

/// Writes model.safetensors, or shards and model.safetensors.index.json, as HF's `save_pretrained` does: shards are
/// filled in the order of `state`, names for the same elements are stored once under the first of them, views of one
/// storage share a shard. Weight files of an earlier save that the new one does not use are removed. All or nothing:
/// see SaveTransaction. Saving over the folder that `state` was loaded from works.
void save_checkpoint(const std::string& folder, const torch::OrderedDict<std::string, at::Tensor>& state,
                     const SaveCheckpointOptions& options = {});

/// The same as part of a larger save; nothing is in place before `save.commit()`.
void add_checkpoint(SaveTransaction& save, const torch::OrderedDict<std::string, at::Tensor>& state,
                    const SaveCheckpointOptions& options = {});

/// The same with `count` files whose tensors are made when their file is written, in order, so that no more than one
/// file's need memory at a time. No name may come twice, nor any element under two names.
void add_checkpoint_files(SaveTransaction& save, size_t count,
                          const std::function<torch::OrderedDict<std::string, at::Tensor>(size_t)>& tensors_of,
                          const std::map<std::string, std::string>& metadata = {{"format", "pt"}});

/// Bytes of "5GB", "500MB", "2GiB", "1.5 kB", "1024": decimal units, binary ones with an i.
int64_t parse_size(std::string_view text);

}  // namespace transformers
