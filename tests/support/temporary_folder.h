#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace transformers::testing {

/// A fresh folder that is removed with everything in it when the object goes.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::string operator/(std::string_view name) const { return (path_ / name).string(); }

 private:
  std::filesystem::path path_;
};

void write_file(const std::string& path, std::string_view bytes);
std::string read_file(const std::string& path);

/// Path of a file or folder under the project's top folder, e.g. source_path("configs/tiny-llama.json").
std::string source_path(std::string_view relative);

}  // namespace transformers::testing
