// What a target gets under libFuzzer beside its input: changes that keep to its grammar, among libFuzzer's own.
#include <algorithm>
#include <cstdint>

#include "fuzz/changes.h"

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned seed) {
  using namespace transformers::fuzz;
  Random random(seed);
  if (below(random, 3) == 0) {
    return LLVMFuzzerMutate(data, size, max_size);
  }
  std::string input(reinterpret_cast<const char*>(data), size);
  do {
    input = TRANSFORMERS_FUZZ_CHANGE(std::move(input), random);
  } while (below(random, 3) == 0);
  const auto count = std::min(input.size(), max_size);
  std::copy_n(input.begin(), count, data);
  return count;
}
