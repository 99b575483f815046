#include "cli/tokenizer_files.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <filesystem>

#include "utils/files/internal/regular_file.h"
#include "utils/files/internal/save_journal.h"
#include "utils/text/printable.h"

namespace transformers::cli {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMostBytes = size_t{256} << 20;

fs::path real_path(const fs::path& path) {
  std::error_code error;
  auto real = fs::canonical(path, error);
  TORCH_CHECK(!error, printable(path.string()), ": cannot be opened: ", error.message());
  return real;
}

bool is_within(const fs::path& path, const fs::path& folder) {
  return std::mismatch(folder.begin(), folder.end(), path.begin(), path.end()).first == folder.end();
}

/// A file that is copied as it is must be one of the model's. Its name may be a link: to a file of the folder or of the
/// same name, or, in a Hugging Face cache, from snapshots/<revision>/ into blobs/. Any other link would let whoever
/// made the folder choose which file of this machine goes into the copy.
void check_link(const std::string& folder, const std::string& path) {
  const auto target = real_path(path), inside = real_path(folder);
  const bool is_own = target.filename() == fs::path(path).filename() || is_within(target, inside) ||
                      target.parent_path() == inside.parent_path().parent_path() / "blobs";
  TORCH_CHECK(is_own, printable(path), ": expected a file of the model, found a link to ", printable(target.string()),
              "; copy that file to its place if it is meant");
}

}  // namespace

std::map<std::string, std::string> read_tokenizer_files(const std::string& folder) {
  std::map<std::string, std::string> files;
  for (const char* name : kTokenizerFiles) {
    if (const auto path = std::string(folder).append("/").append(name); file_exists(path)) {
      check_link(folder, path);
      files.emplace(name, read_regular_file(path, kMostBytes));
    }
  }
  return files;
}

void add_tokenizer_files(SaveTransaction& save, const std::map<std::string, std::string>& files) {
  if (files.empty()) {
    return;
  }
  for (const char* name : kTokenizerFiles) {
    save.remove(name);
  }
  for (const auto& [name, text] : files) {
    save.write(name, text);
  }
}

}  // namespace transformers::cli
