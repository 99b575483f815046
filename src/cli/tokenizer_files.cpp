#include "cli/tokenizer_files.h"

#include <filesystem>

#include "utils/json/regular_file.h"

namespace transformers::cli {
namespace {

constexpr size_t kMostBytes = size_t{256} << 20;

}  // namespace

void copy_tokenizer(const std::string& from, const std::string& to) {
  SaveTransaction save(to);
  copy_tokenizer(from, save);
  save.commit();
}

void copy_tokenizer(const std::string& from, SaveTransaction& save) {
  for (const char* name : kTokenizerFiles) {
    if (const auto path = std::filesystem::path(from) / name; std::filesystem::exists(path)) {
      save.write(name, read_regular_file(path.string(), kMostBytes));
    }
  }
}

}  // namespace transformers::cli
