#include "utils/tokenization/tokenizer_config.h"

#include "fuzz/scratch_folder.h"
#include "fuzz/target.h"

namespace transformers::fuzz {

void try_input(std::string_view input) {
  static const ScratchFolder folder;
  folder.write("tokenizer_config.json", input);
  tokenization::read_tokenizer_config(folder.path());
}

}  // namespace transformers::fuzz
