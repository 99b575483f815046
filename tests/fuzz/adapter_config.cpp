#include <transformers/utils/peft/lora_config.h>

#include "fuzz/target.h"

namespace transformers::fuzz {

void try_input(std::string_view input) { LoraConfig::from_json(input, "input").to_json(); }

}  // namespace transformers::fuzz
