#include <transformers/llama/configuration_llama.h>

#include "fuzz/target.h"
#include "fuzz/written_again.h"

namespace transformers::fuzz {

void try_input(std::string_view input) { read_and_write_again<LlamaConfig>(input); }

}  // namespace transformers::fuzz
