#include "utils/io/zip_archive.h"

#include "fuzz/target.h"

namespace transformers::fuzz {

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
