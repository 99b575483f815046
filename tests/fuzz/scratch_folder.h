#pragma once

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

namespace transformers::fuzz {

/// A folder of this process, in memory where the system has such a file system, for parsers that take files.
class ScratchFolder {
 public:
  ScratchFolder() : path_(place() / ("transformers_fuzz_" + std::to_string(::getpid()))) {
    std::filesystem::create_directory(path_);
  }
  ~ScratchFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;

  std::string path() const { return path_.string(); }
  /// Writes a file and returns its path.
  std::string write(const char* name, std::string_view bytes) const {
    std::ofstream(path_ / name, std::ios::binary) << bytes;
    return (path_ / name).string();
  }

 private:
  static std::filesystem::path place() {
    const std::filesystem::path memory("/dev/shm");
    return std::filesystem::is_directory(memory) ? memory : std::filesystem::temp_directory_path();
  }

  std::filesystem::path path_;
};

}  // namespace transformers::fuzz
