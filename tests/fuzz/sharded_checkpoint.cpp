#include "fuzz/target.h"
#include "utils/fully_sharded/checkpoint_index.h"

namespace transformers::fuzz {

void try_input(std::string_view input) { parse_index(input, "input"); }

}  // namespace transformers::fuzz
