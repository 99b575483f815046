#pragma once

#include <transformers/export.h>

#include <cstdint>
#include <fstream>
#include <optional>
#include <string>

namespace TRANSFORMERS_API transformers {

/// Scalars over steps in an event file that TensorBoard shows. Mirrors the part of torch's `SummaryWriter` (torch
/// 2.11.0) that training needs.
class TensorBoardWriter {
 public:
  /// Begins a new file in the folder, which is made when its parent is there. With `purge_step`, what earlier files of
  /// the folder say of this step and later ones is no longer shown: for a run that is continued.
  explicit TensorBoardWriter(const std::string& folder, std::optional<int64_t> purge_step = std::nullopt);

  /// On the disk's way when it returns. Throws, naming the file, when it cannot be written.
  void add_scalar(const std::string& tag, double value, int64_t step);

  const std::string& path() const { return path_; }

 private:
  void write_record(const std::string& event);

  std::string path_;
  std::ofstream file_;
};

}  // namespace transformers
