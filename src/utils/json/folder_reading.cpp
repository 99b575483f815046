#include "utils/json/folder_reading.h"

#include <sys/stat.h>

#include <filesystem>
#include <optional>
#include <string_view>

#include "utils/json/save_journal.h"

namespace transformers {
namespace {

std::optional<FileIdentity> identity_of(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0 || !S_ISREG(status.st_mode)) {
    return std::nullopt;
  }
  return FileIdentity{status.st_dev, status.st_ino, status.st_size, status.st_mtim.tv_sec, status.st_mtim.tv_nsec};
}

}  // namespace

std::map<std::string, FileIdentity> files_of_folder(const std::string& folder) {
  std::map<std::string, FileIdentity> files;
  const auto journal = read_save_journal(folder);
  std::error_code error;
  for (std::filesystem::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    const auto name = entry->path().filename().string();
    if (const auto identity = name.starts_with('.') ? std::nullopt : identity_of(entry->path().string())) {
      files.insert_or_assign(name, *identity);
    }
  }
  if (journal) {
    for (const auto& [temporary, name] : journal->replacements) {
      if (const auto identity = identity_of(std::string(folder).append("/").append(temporary))) {
        files.insert_or_assign(name, *identity);
      }
    }
    for (const auto& name : journal->removals) {
      files.erase(name);
    }
  }
  return files;
}

int prepare_reading(const std::string& folder) {
  finish_interrupted_save(folder);
  constexpr int kAttempts = 50;
  return kAttempts;
}

}  // namespace transformers
