#pragma once

#include <transformers/utils/io/tensor_file.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace transformers {

/// The content of a file that `torch.save` wrote.
struct TorchContents {
  /// The position of a tensor in its record, in elements. The record is a piece of the file.
  struct View {
    std::string_view record;
    int64_t offset;
    std::vector<int64_t> strides;
  };

  std::vector<TensorInfo> tensors;
  std::vector<View> views;           // one per tensor
  std::vector<std::string> skipped;  // entries that are not tensors, each with its kind
};

/// Parses and checks everything in a file except the values of its tensors, without executing anything. `path` names
/// the file in errors.
TorchContents parse_torch_checkpoint(std::string_view file, const std::string& path);

}  // namespace transformers
