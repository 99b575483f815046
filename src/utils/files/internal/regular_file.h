#pragma once

#include <cstddef>
#include <string>

namespace transformers {

/// An open, readable, regular file. Folders, pipes, sockets and devices are rejected, and opening one never blocks;
/// symbolic links are followed. While a save is under way in the file's folder, this is the new file.
class RegularFile {
 public:
  explicit RegularFile(const std::string& path);
  ~RegularFile();
  RegularFile(const RegularFile&) = delete;
  RegularFile& operator=(const RegularFile&) = delete;

  int descriptor() const { return descriptor_; }
  /// Size in bytes at this moment.
  size_t size() const;
  /// Throws when the file has become too short.
  std::string read(size_t offset, size_t size) const;

 private:
  std::string path_;
  int descriptor_;
};

/// Throws unless the path is a folder.
void check_folder(const std::string& path);

/// Reads the whole file, which may hold at most `max_bytes`.
std::string read_regular_file(const std::string& path, size_t max_bytes);

}  // namespace transformers
