#include <c10/util/Exception.h>
#include <transformers/utils/files/model_folder.h>

#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "utils/files/folder_reading.h"
#include "utils/files/internal/folder_json.h"
#include "utils/files/internal/regular_file.h"
#include "utils/files/internal/save_journal.h"
#include "utils/json/strict_json.h"
#include "utils/text/printable.h"

namespace transformers {

struct FolderContents {
  std::map<std::string, nlohmann::ordered_json> parsed;
  bool is_being_read = false;
};

namespace {

/// Marks that a save is being read: nested reads of the same folder belong to the same save.
class ReadingGuard {
 public:
  explicit ReadingGuard(FolderContents& contents) : contents_(contents) { contents_.is_being_read = true; }
  ~ReadingGuard() { contents_.is_being_read = false; }
  ReadingGuard(const ReadingGuard&) = delete;
  ReadingGuard& operator=(const ReadingGuard&) = delete;

 private:
  FolderContents& contents_;
};

}  // namespace

ModelFolder::ModelFolder(std::string path) : path_(std::move(path)), contents_(std::make_shared<FolderContents>()) {}

std::string ModelFolder::file(const std::string& name) const { return (std::filesystem::path(path_) / name).string(); }

bool ModelFolder::contains(const std::string& name) const { return file_exists(file(name)); }

void ModelFolder::read_one_save(const std::function<void()>& read) const {
  if (contents_->is_being_read) {
    read();
    return;
  }
  finish_interrupted_save(path_);
  constexpr int kAttempts = 50;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    const ReadingGuard reading(*contents_);
    contents_->parsed.clear();
    const auto before = model_files(path_);
    try {
      read();
      if (model_files(path_) == before) {
        return;
      }
    } catch (const c10::Error&) {  // the error counts if no save came between
      if (model_files(path_) == before) {
        throw;
      }
    }
  }
  TORCH_CHECK(false, printable(path_), ": its files are replaced again and again while they are read");
}

const nlohmann::ordered_json& folder_json(const ModelFolder& folder, const std::string& name, JsonLimits limits) {
  auto& [parsed, is_being_read] = folder.contents();
  const auto found = parsed.find(name);
  if (is_being_read && found != parsed.end()) {
    return found->second;
  }
  check_folder(folder.path());
  const auto path = folder.file(name);
  // Reads one byte more than the limit, so that the parser reports a longer file.
  auto json = parse_strict_json(read_regular_file(path, limits.max_bytes + 1), path, limits);
  return parsed.insert_or_assign(name, std::move(json)).first->second;
}

}  // namespace transformers
