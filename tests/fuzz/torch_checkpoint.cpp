#include "fuzz/target.h"
#include "utils/io/torch_contents.h"

namespace transformers::fuzz {

void try_input(std::string_view input) { parse_torch_checkpoint(input, "input"); }

}  // namespace transformers::fuzz
