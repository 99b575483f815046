#include "utils/files/folder_reading.h"

#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <optional>
#include <string_view>

#include "utils/files/internal/save_journal.h"

namespace transformers {
namespace {

std::optional<FileIdentity> identity_of(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0 || !S_ISREG(status.st_mode)) {
    return std::nullopt;
  }
  return FileIdentity{status.st_dev, status.st_ino, status.st_size, status.st_mtim.tv_sec, status.st_mtim.tv_nsec};
}

constexpr std::array<std::string_view, 11> kNames{"config.json",
                                                  "generation_config.json",
                                                  "adapter_config.json",
                                                  "tokenizer.json",
                                                  "tokenizer_config.json",
                                                  "special_tokens_map.json",
                                                  "added_tokens.json",
                                                  "vocab.json",
                                                  "merges.txt",
                                                  "chat_template.jinja",
                                                  "tokenizer.model"};
constexpr std::array<std::string_view, 3> kEnds{".safetensors", ".bin", ".index.json"};

bool belongs_to_model(std::string_view name) {
  return std::ranges::find(kNames, name) != kNames.end() || std::ranges::any_of(kEnds, [&](std::string_view end) {
           return name.ends_with(end) && !name.starts_with('.');
         });
}

}  // namespace

std::map<std::string, FileIdentity> model_files(const std::string& folder) {
  std::map<std::string, FileIdentity> files;
  const auto journal = read_save_journal(folder);
  std::error_code error;
  for (std::filesystem::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    const auto name = entry->path().filename().string();
    if (const auto identity = belongs_to_model(name) ? identity_of(entry->path().string()) : std::nullopt) {
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

}  // namespace transformers
