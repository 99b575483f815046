#include "utils/files/internal/replace_file.h"

#include <c10/util/Exception.h>
#include <sys/stat.h>

#include <filesystem>

#include "utils/files/internal/save_journal.h"
#include "utils/files/pending_file.h"
#include "utils/text/printable.h"

namespace transformers {

void replace_file(const std::string& path, const std::function<void(const ByteSink&)>& produce) {
  const std::filesystem::path target(path);
  struct stat status {};
  TORCH_CHECK(target.has_filename() && (::stat(path.c_str(), &status) != 0 || S_ISREG(status.st_mode)), printable(path),
              ": expected a name for a file");
  const auto folder = target.has_parent_path() ? target.parent_path().string() : ".";
  constexpr const char* kPrefix = ".writing-";
  remove_abandoned(folder, kPrefix, target.filename().string());
  PendingFile file(folder, target.filename().string(), kPrefix);
  produce([&](std::string_view bytes) { file.write(bytes); });
  file.finish();
  file.publish();
  sync_folder(folder);
}

void replace_file(const std::string& path, std::string_view bytes) {
  replace_file(path, [&](const ByteSink& sink) { sink(bytes); });
}

}  // namespace transformers
