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

/// The components of a tokenizer.json. Text passes through added tokens, normalizer, pre-tokenizer and model, in this
/// order.
struct BpeTokenizer::Pipeline {
  std::unique_ptr<tokenization::TokenModel> model;
  tokenization::AddedTokens added;
  tokenization::Normalizer normalizer;       // may be empty
  tokenization::PreTokenizer pre_tokenizer;  // may be empty
  tokenization::Decoder decoder;
  std::vector<int64_t> prefix = {}, suffix = {};  // added around a text by the post-processor
  SpecialTokenIds special = {};

  std::optional<int64_t> token_to_id(std::string_view token) const;
  /// The text of an id for the decoder; null when there is no such id.
  const std::string* id_to_token(int64_t id) const;
  /// `at_start`: whether the text begins the input; `is_read`: which added tokens are read in the text.
  void encode_text(std::string_view valid_text, bool at_start, const tokenization::AddedTokens::IsRead& is_read,
                   std::vector<int64_t>& ids) const;

  /// Checks that the components fit together, and takes special tokens from the config.
  void settle(const tokenization::TokenizerConfig& config, const std::string& source);
  /// Adds tokens according to the config's add_bos_token and add_eos_token, for files without a post-processor.
  void add_bos_and_eos(const tokenization::TokenizerConfig& config);

 private:
  void check_added_tokens(const std::string& source) const;
  void encode_words(std::string_view normalized, bool at_start, std::vector<int64_t>& ids) const;
};

}  // namespace transformers
