#pragma once

#include <c10/util/Exception.h>  // ordered_dict.h needs it and does not include it
#include <torch/ordered_dict.h>
#include <transformers/export.h>
#include <transformers/utils/io/tensor_file.h>

#include <map>
#include <memory>
#include <string_view>
#include <unordered_map>

namespace transformers {
class MappedFile;
}  // namespace transformers

namespace TRANSFORMERS_API transformers {

/// Reads a safetensors file, as `safetensors.safe_open`. Every rule of the format is checked on opening; beyond the
/// reference reader, a name used twice, a bool that is neither 0 nor 1, more than 64 dimensions, and sizes that
/// overflow when zero dimensions are ignored are errors too. An error names the file, the tensor, the rule and what was
/// found.
class SafetensorsFile : public TensorFile {
 public:
  explicit SafetensorsFile(const std::string& path);

  const std::string& path() const override;
  const std::vector<TensorInfo>& tensors() const override { return tensors_; }
  int64_t bytes() const override;
  at::Tensor tensor(const std::string& name) const override;
  void drop_pages(const std::string& name) const override;

  bool contains(const std::string& name) const { return positions_.contains(name); }
  /// The free text of `__metadata__`; HF writes {"format": "pt"}.
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

 private:
  size_t position(const std::string& name) const;
  std::string_view data(size_t position) const;

  std::shared_ptr<const MappedFile> file_;
  std::map<std::string, std::string> metadata_;
  std::vector<TensorInfo> tensors_;
  std::vector<size_t> begins_;  // byte offset in the file of each tensor
  std::unordered_map<std::string, size_t> positions_;
};

/// Writes the same bytes as `safetensors.torch.save_file`: tensors ordered by dtype, then by name, and the header
/// padded to 8 bytes. Tensors may be strided or on any device; at most one of them is copied at a time. The file gets
/// its name only when it is complete. The folder must exist.
void save_safetensors(const std::string& path, const torch::OrderedDict<std::string, at::Tensor>& tensors,
                      const std::map<std::string, std::string>& metadata = {{"format", "pt"}});

}  // namespace transformers
