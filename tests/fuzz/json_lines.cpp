#include <ATen/core/Tensor.h>
#include <transformers/utils/data/dataset.h>
#include <transformers/utils/tokenization/bpe_tokenizer.h>

#include "fuzz/scratch_folder.h"
#include "fuzz/target.h"

namespace transformers::fuzz {
namespace {

/// A byte a token.
std::shared_ptr<const Tokenizer> tokenizer(const ScratchFolder& folder) {
  folder.write("tokenizer.json",
               R"({"model":{"type":"BPE","unk_token":"u","vocab":{"u":0,"a":1,"b":2,"c":3},"merges":[]}})");
  return BpeTokenizer::from_tokenizer_json(folder.path());
}

void read(const Dataset& samples) {
  for (int64_t i = 0; i < samples.size(); ++i) {
    samples.get(i);
  }
}

}  // namespace

void try_input(std::string_view input) {
  static const ScratchFolder folder;
  static const auto any = tokenizer(folder);
  const auto path = folder.write("lines.jsonl", input);
  read(JsonLinesDataset(path, any, {.max_length = 8, .num_labels = input.size() % 2 == 0 ? 3 : 0}));
}

}  // namespace transformers::fuzz
