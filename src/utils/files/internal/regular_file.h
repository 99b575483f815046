#pragma once

#include <cstddef>
#include <string>

namespace transformers {

/// An open, readable, regular file. Folders, pipes, sockets and devices are refused, and opening one never blocks;
/// symbolic links are followed. While a save is being carried out in the file's folder, it is the new file.
class RegularFile {
 public:
  explicit RegularFile(const std::string& path);
  ~RegularFile();
  RegularFile(const RegularFile&) = delete;
  RegularFile& operator=(const RegularFile&) = delete;

  int descriptor() const { return descriptor_; }
  /// Size in bytes at this moment.
  size_t size() const;
  /// Throws when the file has become too short for it.
  std::string read(size_t offset, size_t size) const;

 private:
  std::string path_;
  int descriptor_;
};

/// Throws unless a folder lies there.
void check_folder(const std::string& path);

/// The whole file, which may hold at most `max_bytes`.
std::string read_regular_file(const std::string& path, size_t max_bytes);

}  // namespace transformers
