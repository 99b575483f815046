#include "utils/io/shard_index.h"

#include "fuzz/target.h"

namespace transformers::fuzz {

void try_input(std::string_view input) { parse_shard_index(input, "input"); }

}  // namespace transformers::fuzz
