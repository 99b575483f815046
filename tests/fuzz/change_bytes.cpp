#include "fuzz/changes.h"

namespace transformers::fuzz {

std::string change_bytes(std::string input, Random& random) {
  const auto position = input.empty() ? 0 : below(random, input.size());
  switch (input.empty() ? 3 : below(random, 5)) {
    case 0:
      input[position] = static_cast<char>(random() >> 8);
      break;
    case 1:
      input[position] = static_cast<char>(input[position] ^ (1 << below(random, 8)));
      break;
    case 2:
      input.erase(position, 1 + below(random, 4));
      break;
    case 3:
      input.insert(position, input.empty() ? "a" : input.substr(position, 1 + below(random, 16)));
      break;
    default:
      constexpr std::string_view kExtremes("\xff\xff\xff\xff\xff\xff\xff\x7f\0\0\0\0\0\0\0\x80", 16);
      input.replace(position, 8, kExtremes.substr(below(random, 9), 8));
  }
  return input;
}

}  // namespace transformers::fuzz
