#include "utils/tokenization/golden_files.h"

#include <filesystem>
#include <nlohmann/json.hpp>

#include "support/temporary_folder.h"

namespace transformers::testing {

namespace fs = std::filesystem;

std::string golden_path(const std::string& relative) { return source_path("tests/golden/tokenization/" + relative); }

nlohmann::json read_golden(const std::string& relative) {
  return nlohmann::json::parse(read_file(golden_path(relative)));
}

std::vector<std::string> corpus() { return read_golden("corpus.json").get<std::vector<std::string>>(); }

void copy_golden(const std::string& kind, const std::string& target) {
  for (const auto& entry : fs::directory_iterator(golden_path(kind))) {
    if (entry.path().filename() != "expected.json") {
      fs::copy_file(entry.path(), fs::path(target) / entry.path().filename());
    }
  }
}

}  // namespace transformers::testing
