#include "utils/io/zip_archive.h"

#include "fuzz/target.h"
#include "utils/io/file_builders.h"

namespace transformers::fuzz {

std::vector<std::string> seeds() {
  const std::vector<testing::ZipRecord> records{{"a/data.pkl", "pickle"},
                                                {.name = "a/data/0", .bytes = "x", .zip64 = true}};
  return {testing::zip_bytes(records), testing::zip64_bytes(records), testing::zip_bytes({})};
}

void try_input(std::string_view input) {
  size_t sum = 0;
  for (const auto& [name, bytes] : read_zip_archive(input, "input", [](const std::string&) {})) {
    for (const auto byte : bytes) {
      sum += static_cast<uint8_t>(byte);
    }
  }
  [[maybe_unused]] volatile size_t read_all = sum;
}

}  // namespace transformers::fuzz
