#include <transformers/utils/tokenization/sentencepiece_tokenizer.h>

#include "fuzz/scratch_folder.h"
#include "fuzz/target.h"

namespace transformers::fuzz {

void try_input(std::string_view input) {
  static const ScratchFolder folder;
  folder.write("tokenizer.model", input);
  const auto tokenizer = SentencePieceTokenizer::from_folder(folder.path());
  tokenizer->decode(tokenizer->encode("ab A1 \xe2\x96\x81 ab"), /*skip_special_tokens=*/false);
}

}  // namespace transformers::fuzz
