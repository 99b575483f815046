#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "utils/tokenization/added_tokens.h"
#include "utils/tokenization/token_model.h"
#include "utils/tokenization/tokenizer_config.h"

namespace transformers::tokenization {

/// The vocabulary to which tokens are added.
struct BaseVocabulary {
  int64_t size;
  std::function<std::optional<int64_t>(std::string_view)> id_of;
};

BaseVocabulary vocabulary_of(const TokenModel& model);

/// The added tokens `tokens` of a tokenizer, extended by those that only its side files name and with the flags of
/// these files: first `added_tokens_decoder`, then bos_token and similar ones, then additional ones. A token that is
/// not in the vocabulary gets the next free id. Mirrors `TokenizersBackend.__init__`, transformers 5.23.
std::vector<AddedToken> with_side_tokens(std::vector<AddedToken> tokens, const TokenizerConfig& config,
                                         const BaseVocabulary& vocabulary);

}  // namespace transformers::tokenization
