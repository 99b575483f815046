#include "utils/json/strict_json.h"

#include <nlohmann/json.hpp>

#include "fuzz/target.h"

namespace transformers::fuzz {

std::vector<std::string> seeds() {
  return {
      R"({"a":[1,-2,3.5e-7,true,null,"\u00e9\n\ud83d\ude00"],"b":{"__float__":"Infinity"},"ü":18446744073709551615})",
      std::string(60, '[') + std::string(60, ']')};
}

void try_input(std::string_view input) {
  // Copying and dumping recurse, so they must be safe for whatever was accepted.
  const auto copy = parse_strict_json(input, "input");
  const auto text = copy.dump();
  if (parse_strict_json(text, "dump", {.max_bytes = text.size()}) != copy) {
    std::abort();
  }
}

}  // namespace transformers::fuzz
