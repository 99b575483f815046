#include <transformers/utils/tokenization/bpe_tokenizer.h>

#include "fuzz/scratch_folder.h"
#include "fuzz/target.h"

namespace transformers::fuzz {

void try_input(std::string_view input) {
  static const ScratchFolder folder;
  folder.write("tokenizer.json", input);
  const auto tokenizer = BpeTokenizer::from_tokenizer_json(folder.path());
  tokenizer->decode(tokenizer->encode("ab <e> A1 \xe2\x96\x81 ab"), /*skip_special_tokens=*/false);
}

}  // namespace transformers::fuzz
