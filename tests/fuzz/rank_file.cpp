#include "utils/tokenization/rank_file.h"

#include "fuzz/target.h"

namespace transformers::fuzz {

void try_input(std::string_view input) {
  tokenization::looks_like_rank_file(input);
  tokenization::make_bpe_from_ranks(input, "input");
}

}  // namespace transformers::fuzz
