#include <c10/util/Exception.h>
#include <transformers/utils/tokenization/bpe_tokenizer.h>
#include <transformers/utils/tokenization/sentencepiece_tokenizer.h>
#include <transformers/utils/tokenization/tokenizer.h>

#include "utils/files/folder_reading.h"
#include "utils/text/printable.h"
#include "utils/files/regular_file.h"
#include "utils/tokenization/rank_file.h"
#include "utils/tokenization/tokenizer_config.h"

namespace transformers {

std::string Tokenizer::decode(std::span<const int64_t> ids, bool skip_special_tokens) const {
  const auto decoder = streaming_decoder(skip_special_tokens);
  std::string text;
  for (const auto id : ids) {
    text += decoder->push(id);
  }
  return text + decoder->finish();
}

namespace {

std::shared_ptr<Tokenizer> load_files(const std::string& folder) {
  using namespace tokenization;
  check_folder(folder);
  if (file_exists(file_in(folder, "tokenizer.json"))) {
    return BpeTokenizer::from_tokenizer_json(folder);
  }
  const auto model = file_in(folder, "tokenizer.model");
  if (!file_exists(model) && file_exists(file_in(folder, "vocab.json")) && file_exists(file_in(folder, "merges.txt"))) {
    return BpeTokenizer::from_vocab_and_merges(folder);
  }
  TORCH_CHECK(file_exists(model), printable(folder),
              ": holds neither tokenizer.json nor tokenizer.model nor vocab.json with merges.txt");
  if (looks_like_rank_file(read_regular_file(model, kMaxTokenizerBytes))) {
    return BpeTokenizer::from_rank_file(folder);
  }
  return SentencePieceTokenizer::from_folder(folder);
}

}  // namespace

std::shared_ptr<Tokenizer> load_tokenizer(const std::string& folder) {
  return from_one_save(folder, [&] { return load_files(folder); });
}

}  // namespace transformers
