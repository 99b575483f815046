#pragma once

#include <transformers/utils/io/tensor_file.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace transformers {

/// What a file that `torch.save` wrote holds.
struct TorchContents {
  /// Where a tensor lies in its record, in elements. The record is a piece of the file.
  struct View {
    std::string_view record;
    int64_t offset;
    std::vector<int64_t> strides;
  };

  std::vector<TensorInfo> tensors;
  std::vector<View> views;           // one a tensor
  std::vector<std::string> skipped;  // entries that are no tensors, each with its kind
};

/// Parses and checks all of a file but the values of its tensors, executing nothing. `path` names it in errors.
TorchContents parse_torch_checkpoint(std::string_view file, const std::string& path);

}  // namespace transformers
