#pragma once

#include <transformers/export.h>

#include <cstdint>
#include <fstream>
#include <optional>
#include <string>

namespace TRANSFORMERS_API transformers {

/// Writes scalars by step to an event file for TensorBoard. Mirrors the part of torch's `SummaryWriter` (torch 2.11.0)
/// that training needs.
class TensorBoardWriter {
 public:
  /// Begins a new file in the folder, which is created if its parent exists. With `purge_step`, TensorBoard no longer
  /// shows values of earlier files for this step and later ones: for a run that is continued.
  explicit TensorBoardWriter(const std::string& folder, std::optional<int64_t> purge_step = std::nullopt);

  /// Has passed the data to the system when it returns. Throws, naming the file, when it cannot be written.
  void add_scalar(const std::string& tag, double value, int64_t step);

  const std::string& path() const { return path_; }

 private:
  void write_record(const std::string& event);

  std::string path_;
  std::ofstream file_;
};

}  // namespace transformers
