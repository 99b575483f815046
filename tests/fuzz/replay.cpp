// Runs a fuzz target without a fuzzer: over its seeds, every truncation of them, what was found before, and random
// changes from a fixed seed.
//
//   fuzz_<target> --replay tests/fuzz <target>
//   fuzz_<target> FILE...     over these alone, to reproduce a find
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

#include "fuzz/changes.h"
#include "fuzz/target.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size);

namespace {

using namespace transformers::fuzz;

constexpr int kChanges = 20000;

std::string read(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// The files of a folder by name; none where there is no folder.
std::vector<std::string> files_of(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> paths;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(folder, ignored)) {
    paths.push_back(entry.path());
  }
  std::ranges::sort(paths);
  std::vector<std::string> files;
  std::ranges::transform(paths, std::back_inserter(files), read);
  return files;
}

void run(const std::string& input) {
  // A copy of exact size, so that a sanitizer sees a read past its end.
  const std::vector<uint8_t> bytes(input.begin(), input.end());
  LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
}

void run_changes(const std::vector<std::string>& seeds) {
  Random random(1);
  for (int i = 0; i < kChanges; ++i) {
    auto input = seeds[below(random, seeds.size())];
    for (auto changes = 1 + below(random, 3); changes > 0; --changes) {
      input = below(random, 2) == 0 ? change_bytes(std::move(input), random)
                                    : TRANSFORMERS_FUZZ_CHANGE(std::move(input), random);
    }
    run(input);
  }
}

int replay(const std::filesystem::path& folder, const std::string& target) {
  const auto seeds = files_of(folder / "seeds" / target);
  if (seeds.empty()) {
    std::fprintf(stderr, "no seeds of %s in %s\n", target.c_str(), folder.c_str());
    return 1;
  }
  for (const auto& seed : seeds) {
    try_input(seed);  // a seed that is refused would make worse ones only
    for (size_t size = 0; size <= seed.size(); ++size) {
      run(seed.substr(0, size));
    }
  }
  const auto found = files_of(folder / "found" / target);
  std::ranges::for_each(found, run);
  run_changes(seeds);
  std::printf("%zu seeds, %d changes of them, %zu earlier finds: no crash\n", seeds.size(), kChanges, found.size());
  return 0;
}

}  // namespace

int main(int count, char** arguments) {
  if (count == 4 && std::string(arguments[1]) == "--replay") {
    return replay(arguments[2], arguments[3]);
  }
  for (int i = 1; i < count; ++i) {
    run(read(arguments[i]));
  }
}
