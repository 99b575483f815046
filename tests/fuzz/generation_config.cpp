#include <transformers/utils/configuration/generation_config.h>

#include "fuzz/target.h"
#include "fuzz/written_again.h"

namespace transformers::fuzz {

void try_input(std::string_view input) { read_and_write_again<GenerationConfig>(input); }

}  // namespace transformers::fuzz
