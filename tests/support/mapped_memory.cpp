#include "support/mapped_memory.h"

#include <fstream>

namespace transformers::testing {

int64_t mapped_memory(const std::string& path, const std::string& key) {
  std::ifstream file("/proc/self/smaps");
  int64_t kilobytes = 0;
  bool is_ours = false;
  for (std::string line; std::getline(file, line);) {
    const bool is_mapping = line.find('-') < line.find(' ');
    is_ours = is_mapping ? line.ends_with(path) : is_ours;
    if (is_ours && line.starts_with(key + ":")) {
      kilobytes += std::stoll(line.substr(key.size() + 1));
    }
  }
  return kilobytes * 1024;
}

}  // namespace transformers::testing
