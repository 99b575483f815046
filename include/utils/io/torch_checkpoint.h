#pragma once

#include <transformers/export.h>
#include <transformers/utils/io/tensor_file.h>

#include <memory>
#include <unordered_map>

namespace TRANSFORMERS_API transformers {

/// Reads a file that `torch.save` wrote from a state dict (zip format, torch >= 1.6), as `torch.load(path,
/// weights_only=True, mmap=True)`. Nothing in the file is executed: only the few globals that tensors need are known,
/// and any other is an error that names it. Tensors that shared memory when they were saved share it again; views keep
/// their strides. Names in nested dictionaries are joined by dots.
class TorchCheckpointFile : public TensorFile {
 public:
  explicit TorchCheckpointFile(const std::string& path);
  ~TorchCheckpointFile() override;

  const std::string& path() const override;
  /// In the order of the dictionary.
  const std::vector<TensorInfo>& tensors() const override { return tensors_; }
  int64_t bytes() const override;
  at::Tensor tensor(const std::string& name) const override;
  void drop_pages(const std::string& name) const override;

  /// Names of the entries that are not tensors, each with its kind: "epoch (integer)".
  const std::vector<std::string>& skipped() const { return skipped_; }

 private:
  struct TRANSFORMERS_PRIVATE Contents;
  size_t position(const std::string& name) const;

  std::unique_ptr<Contents> contents_;
  std::vector<TensorInfo> tensors_;
  std::unordered_map<std::string, size_t> positions_;
  std::vector<std::string> skipped_;
};

}  // namespace transformers
