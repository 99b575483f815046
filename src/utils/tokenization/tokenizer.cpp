#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>
#include <transformers/utils/tokenization/bpe_tokenizer.h>
#include <transformers/utils/tokenization/sentencepiece_tokenizer.h>
#include <transformers/utils/tokenization/tokenizer.h>

#include "utils/files/internal/regular_file.h"
#include "utils/text/printable.h"
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

std::string Tokenizer::decode(const at::Tensor& ids, bool skip_special_tokens) const {
  TORCH_CHECK(ids.dim() == 1 && at::isIntegralType(ids.scalar_type(), /*includeBool=*/false),
              "decode: ids must be integers of shape [n], got ", ids.scalar_type(), " of shape ", ids.sizes());
  const auto values = ids.to(at::kCPU, at::kLong).contiguous();
  return decode(std::span(values.const_data_ptr<int64_t>(), static_cast<size_t>(values.numel())), skip_special_tokens);
}

namespace {

std::shared_ptr<Tokenizer> load_files(const ModelFolder& folder) {
  using namespace tokenization;
  check_folder(folder.path());
  if (folder.contains("tokenizer.json")) {
    return BpeTokenizer::from_tokenizer_json(folder);
  }
  const bool has_model = folder.contains("tokenizer.model");
  if (!has_model && folder.contains("vocab.json") && folder.contains("merges.txt")) {
    return BpeTokenizer::from_vocab_and_merges(folder);
  }
  TORCH_CHECK(has_model, printable(folder.path()),
              ": holds neither tokenizer.json nor tokenizer.model nor vocab.json with merges.txt");
  if (looks_like_rank_file(read_regular_file(folder.file("tokenizer.model"), kMaxTokenizerBytes))) {
    return BpeTokenizer::from_rank_file(folder);
  }
  return SentencePieceTokenizer::from_folder(folder);
}

}  // namespace

std::shared_ptr<Tokenizer> load_tokenizer(const ModelFolder& folder) {
  std::shared_ptr<Tokenizer> tokenizer;
  folder.read_one_save([&] { tokenizer = load_files(folder); });
  return tokenizer;
}

}  // namespace transformers
