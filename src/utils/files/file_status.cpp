#include "utils/files/internal/file_status.h"

#include <c10/util/Exception.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <optional>

#include "utils/text/printable.h"

namespace transformers {
namespace {

/// None if there is no such file.
std::optional<struct stat> status_of(const std::string& path) {
  struct stat status {};
  TORCH_CHECK(path.find('\0') == std::string::npos, printable(path), ": a file name holds no NUL");
  if (::stat(path.c_str(), &status) == 0) {
    return status;
  }
  TORCH_CHECK(errno == ENOENT || errno == ENOTDIR, printable(path), ": cannot be looked at: ", std::strerror(errno));
  return std::nullopt;
}

}  // namespace

bool path_exists(const std::string& path) { return status_of(path).has_value(); }

bool is_folder(const std::string& path) {
  const auto status = status_of(path);
  return status && S_ISDIR(status->st_mode);
}

bool is_regular_file(const std::string& path) {
  const auto status = status_of(path);
  return status && S_ISREG(status->st_mode);
}

bool is_same_file(const std::string& path, const std::string& other) {
  const auto first = status_of(path), second = status_of(other);
  return first && second && first->st_dev == second->st_dev && first->st_ino == second->st_ino;
}

std::vector<std::string> names_in_folder(const std::string& path) {
  std::vector<std::string> names;
  std::error_code error;
  std::filesystem::directory_iterator entry(path, error);
  for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
    names.push_back(entry->path().filename().string());
  }
  TORCH_CHECK(!error, printable(path), ": the folder cannot be read: ", error.message());
  return names;
}

void make_folder(const std::string& path) {
  TORCH_CHECK(is_folder(path) || ::mkdir(path.c_str(), 0777) == 0, printable(path),
              ": the folder cannot be created: ", std::strerror(errno));
}

}  // namespace transformers
