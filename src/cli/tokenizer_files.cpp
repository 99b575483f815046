#include "cli/tokenizer_files.h"

#include "utils/json/regular_file.h"
#include "utils/json/save_journal.h"

namespace transformers::cli {
namespace {

constexpr size_t kMostBytes = size_t{256} << 20;

}  // namespace

std::map<std::string, std::string> read_tokenizer_files(const std::string& folder) {
  std::map<std::string, std::string> files;
  for (const char* name : kTokenizerFiles) {
    if (const auto path = std::string(folder).append("/").append(name); file_exists(path)) {
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
