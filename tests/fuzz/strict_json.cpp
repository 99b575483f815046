#include "utils/json/strict_json.h"

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "fuzz/target.h"

namespace transformers::fuzz {

void try_input(std::string_view input) {
  // Copying and dumping recurse, so they must be safe for whatever was accepted.
  const auto copy = parse_strict_json(input, "input");
  const auto text = copy.dump();
  if (parse_strict_json(text, "dump", {.max_bytes = text.size()}) != copy) {
    std::abort();
  }
}

}  // namespace transformers::fuzz
