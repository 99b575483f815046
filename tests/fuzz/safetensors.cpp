#include "fuzz/target.h"
#include "utils/io/internal/safetensors_header.h"

namespace transformers::fuzz {

void try_input(std::string_view input) { parse_safetensors(input, "input"); }

}  // namespace transformers::fuzz
