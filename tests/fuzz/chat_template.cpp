#include <transformers/utils/tokenization/chat_format.h>

#include "fuzz/target.h"

namespace transformers::fuzz {

void try_input(std::string_view input) { recognize_chat_template(input, "input"); }

}  // namespace transformers::fuzz
