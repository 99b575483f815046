#pragma once

#include <transformers/utils/tokenization/bpe_tokenizer.h>

#include <memory>
#include <string>
#include <vector>

#include "utils/tokenization/added_tokens.h"
#include "utils/tokenization/decoder.h"
#include "utils/tokenization/normalizer.h"
#include "utils/tokenization/pre_tokenizer.h"
#include "utils/tokenization/token_model.h"
#include "utils/tokenization/tokenizer_config.h"

namespace transformers {

/// All that a tokenizer.json describes: text passes added tokens, normalizer, pre-tokenizer and model, in this order.
struct BpeTokenizer::Pipeline {
  std::unique_ptr<tokenization::TokenModel> model;
  tokenization::AddedTokens added;
  tokenization::Normalizer normalizer;       // may be empty
  tokenization::PreTokenizer pre_tokenizer;  // may be empty
  tokenization::Decoder decoder;
  std::vector<int64_t> prefix = {}, suffix = {};  // what the post-processor puts around a text
  SpecialTokenIds special = {};

  std::optional<int64_t> token_to_id(std::string_view token) const;
  /// The text that an id has for the decoder; null when there is no such id.
  const std::string* id_to_token(int64_t id) const;
  /// `at_start` says that the text begins the input; `is_read` which added tokens the text may spell.
  void encode_text(std::string_view valid_text, bool at_start, const tokenization::AddedTokens::IsRead& is_read,
                   std::vector<int64_t>& ids) const;

  /// Checks what the parts say of each other, and takes special tokens from the config.
  void settle(const tokenization::TokenizerConfig& config, const std::string& source);
  /// As the config's add_bos_token and add_eos_token say, in place of a post-processor: for files that have none.
  void add_bos_and_eos(const tokenization::TokenizerConfig& config);

 private:
  void check_added_tokens(const std::string& source) const;
  void encode_words(std::string_view normalized, bool at_start, std::vector<int64_t>& ids) const;
};

}  // namespace transformers
