// Mirrors `GPT2Tokenizer` (models/gpt2/tokenization_gpt2.py, transformers 5.23).
#include <c10/util/Exception.h>
#include <transformers/utils/tokenization/bpe_tokenizer.h>

#include <nlohmann/json.hpp>

#include "utils/files/internal/json_file.h"
#include "utils/files/internal/regular_file.h"
#include "utils/tokenization/bpe.h"
#include "utils/tokenization/bpe_pipeline.h"
#include "utils/tokenization/side_tokens.h"

namespace transformers {
namespace {

using namespace tokenization;

/// The files say neither how a text is cut nor which tokens are special: the class does.
void check_class(const TokenizerConfig& config, const ModelFolder& folder) {
  const auto& name = config.tokenizer_class;
  TORCH_CHECK(name.empty() || name == "GPT2Tokenizer" || name == "GPT2TokenizerFast", printable(folder.path()),
              ": vocab.json and merges.txt without tokenizer.json are read for GPT2Tokenizer, found tokenizer_class ",
              printable(name));
}

}  // namespace

std::shared_ptr<BpeTokenizer> BpeTokenizer::from_vocab_and_merges(const ModelFolder& folder) {
  auto config = read_tokenizer_config(folder);
  check_class(config, folder);
  const auto vocab_path = folder.file("vocab.json"), merges_path = folder.file("merges.txt");
  const auto vocab = read_json_file(vocab_path, {.max_bytes = kMaxTokenizerBytes});
  const auto merges = read_regular_file(merges_path, kMaxTokenizerBytes);
  auto model = make_bpe_from_merges(JsonNode(vocab, printable(vocab_path)), merges, printable(merges_path));
  auto tokens = with_side_tokens({}, config, vocabulary_of(*model));
  auto pipeline = std::make_shared<Pipeline>(Pipeline{.model = std::move(model),
                                                      .added = AddedTokens(std::move(tokens), {}),
                                                      .normalizer = {},
                                                      .pre_tokenizer = make_gpt2_byte_level(config.add_prefix_space),
                                                      .decoder = make_byte_level_decoder()});
  pipeline->settle(config, printable(vocab_path));
  pipeline->add_bos_and_eos(config);
  return std::make_shared<BpeTokenizer>(std::move(pipeline));
}

}  // namespace transformers
