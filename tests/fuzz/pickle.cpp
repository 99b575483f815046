#include "utils/io/pickle.h"

#include "fuzz/target.h"

namespace transformers::fuzz {

void try_input(std::string_view input) { const Pickle pickle(input, "input"); }

}  // namespace transformers::fuzz
