#include "utils/io/shard_index.h"

#include "fuzz/target.h"

namespace transformers::fuzz {

std::vector<std::string> seeds() {
  return {
      R"({"metadata":{"total_size":14,"total_parameters":7},"weight_map":{"b":"b.safetensors","a":"a.safetensors"}})",
      R"({"weight_map":{},"metadata":null,"other":[1.5e3,-7,"\u00e9\ud83d\ude00",true]})"};
}

void try_input(std::string_view input) { parse_shard_index(input, "input"); }

}  // namespace transformers::fuzz
