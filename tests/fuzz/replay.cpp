// Runs a fuzz target without a fuzzer: over its seeds, every truncation of them, and random changes from a fixed seed.
//
//   fuzz_<target> [FILE...]     with files: over these only, to reproduce a find
#include <cstdio>
#include <fstream>
#include <iterator>
#include <random>

#include "fuzz/target.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size);

namespace {

constexpr int kChanges = 20000;

void run(const std::string& input) {
  // A copy of exact size, so that a sanitizer sees a read past its end.
  const std::vector<uint8_t> bytes(input.begin(), input.end());
  LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
}

void change(std::string& input, std::mt19937& random) {
  const auto position = input.empty() ? 0 : random() % input.size();
  switch (random() % 5) {
    case 0:
      input[position] = static_cast<char>(random());
      return;
    case 1:
      input[position] = static_cast<char>(input[position] ^ (1 << random() % 8));
      return;
    case 2:
      input.erase(position, 1 + random() % 4);
      return;
    case 3:
      input.insert(position, input.substr(position, 1 + random() % 16));
      return;
    default:
      constexpr std::string_view kExtremes("\xff\xff\xff\xff\xff\xff\xff\x7f\0\0\0\0\0\0\0\x80", 16);
      input.replace(position, 8, kExtremes.substr(random() % 9, 8));
  }
}

}  // namespace

int main(int count, char** names) {
  for (int i = 1; i < count; ++i) {
    std::ifstream file(names[i], std::ios::binary);
    run({std::istreambuf_iterator<char>(file), {}});
  }
  if (count > 1) {
    return 0;
  }
  const auto seeds = transformers::fuzz::seeds();
  for (const auto& seed : seeds) {
    transformers::fuzz::try_input(seed);  // a seed that is refused would make worse ones only
    for (size_t size = 0; size <= seed.size(); ++size) {
      run(seed.substr(0, size));
    }
  }
  std::mt19937 random(0);
  for (int i = 0; i < kChanges; ++i) {
    auto input = seeds[random() % seeds.size()];
    for (auto changes = 1 + random() % 3; changes > 0 && !input.empty(); --changes) {
      change(input, random);
    }
    run(input);
  }
  std::printf("%zu seeds and %d changes of them: no crash\n", seeds.size(), kChanges);
}
