#include <algorithm>

#include "fuzz/changes.h"

namespace transformers::fuzz {

std::string change_adapter_folder(std::string input, Random& random) {
  const auto end = std::min(input.find('\0'), input.size());
  auto config = input.substr(0, end), weights = input.substr(std::min(end + 1, input.size()));
  if (below(random, 2) == 0) {
    config = change_json(std::move(config), random);
  } else {
    weights = change_safetensors(std::move(weights), random);
  }
  return config + '\0' + weights;
}

}  // namespace transformers::fuzz
