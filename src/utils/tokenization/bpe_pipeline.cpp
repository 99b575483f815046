// Mirrors `TokenizerImpl` of huggingface/tokenizers 0.23; special ids and add_bos/eos_token as in HF
// tokenization_utils_tokenizers.py, transformers 5.23, which ignores these two where there is a tokenizer.json.
#include "utils/tokenization/bpe_pipeline.h"

#include <c10/util/Exception.h>

#include "utils/text/printable.h"

namespace transformers {

std::optional<int64_t> BpeTokenizer::Pipeline::token_to_id(std::string_view token) const {
  const auto* found = added.find(std::string(token));
  return found != nullptr ? std::optional(found->id) : model->token_to_id(token);
}

const std::string* BpeTokenizer::Pipeline::id_to_token(int64_t id) const {
  const auto* found = added.find(id);
  return found != nullptr ? &added.decoder_text(*found) : model->id_to_token(id);
}

void BpeTokenizer::Pipeline::encode_text(std::string_view valid_text, bool at_start,
                                         const tokenization::AddedTokens::IsRead& is_read,
                                         std::vector<int64_t>& ids) const {
  for (const auto& raw : added.split(valid_text, /*normalized=*/false, is_read)) {
    if (raw.token != nullptr) {
      ids.push_back(raw.token->id);
      continue;
    }
    const auto text = normalizer ? normalizer(raw.text) : std::string(raw.text);
    for (const auto& segment : added.split(text, /*normalized=*/true, is_read)) {
      if (segment.token != nullptr) {
        ids.push_back(segment.token->id);
        continue;
      }
      const bool first = raw.text.data() == valid_text.data() && segment.text.data() == text.data();
      encode_words(segment.text, at_start && first, ids);
    }
  }
}

void BpeTokenizer::Pipeline::encode_words(std::string_view normalized, bool at_start, std::vector<int64_t>& ids) const {
  if (!pre_tokenizer) {
    model->tokenize(normalized, ids);
    return;
  }
  for (const auto& piece : pre_tokenizer({std::string(normalized), at_start})) {
    model->tokenize(piece.text, ids);
  }
}

void BpeTokenizer::Pipeline::check_added_tokens(const std::string& source) const {
  for (const auto& token : added.tokens()) {
    const auto name = printable(token.content);
    TORCH_CHECK(added.find(token.id) == &token, source, ": added_tokens: id ", token.id, " is given to both ",
                printable(added.find(token.id)->content), " and ", name);
    TORCH_CHECK(added.find(token.content) == &token, source, ": added_tokens: ", name, " has both id ",
                added.find(token.content)->id, " and id ", token.id);
    const auto id = model->token_to_id(token.content);
    TORCH_CHECK(!id || *id == token.id, source, ": added_tokens: ", name, " has id ", token.id,
                ", but the vocabulary gives it id ", id.value_or(0));
    const auto* other = model->id_to_token(token.id);
    TORCH_CHECK(other == nullptr || *other == token.content, source, ": added_tokens: ", name, " has id ", token.id,
                ", which the vocabulary gives to ", other == nullptr ? "" : printable(*other));
  }
}

void BpeTokenizer::Pipeline::settle(const tokenization::TokenizerConfig& config, const std::string& source) {
  check_added_tokens(source);
  const auto id_of = [&](const std::optional<std::string>& token) {
    return token ? token_to_id(*token) : std::nullopt;
  };
  special = {.bos = id_of(config.bos_token),
             .eos = id_of(config.eos_token),
             .pad = id_of(config.pad_token),
             .unk = id_of(config.unk_token ? config.unk_token : model->unk_token())};
}

void BpeTokenizer::Pipeline::add_bos_and_eos(const tokenization::TokenizerConfig& config) {
  if (config.add_bos_token.value_or(false) && special.bos) {
    prefix.push_back(*special.bos);
  }
  if (config.add_eos_token.value_or(false) && special.eos) {
    suffix.push_back(*special.eos);
  }
}

}  // namespace transformers
