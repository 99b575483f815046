#pragma once

#include <transformers/utils/files/model_folder.h>

#include <optional>
#include <string>
#include <vector>

#include "utils/tokenization/added_tokens.h"

namespace transformers::tokenization {

constexpr size_t kMaxTokenizerBytes = size_t{64} << 20;

/// The contents of tokenizer_config.json, special_tokens_map.json, added_tokens.json and chat_template.jinja, as far as
/// they exist.
struct TokenizerConfig {
  std::string path;  // of tokenizer_config.json, for messages
  std::optional<std::string> bos_token, eos_token, pad_token, unk_token;
  std::optional<bool> add_bos_token, add_eos_token;
  bool add_prefix_space = false;
  std::string tokenizer_class;
  /// `added_tokens_decoder`, else the entries of added_tokens.json.
  std::vector<AddedToken> added_tokens;
  /// Special tokens by name (bos_token and similar ones) in HF's order, then additional ones; their ids are not set.
  std::vector<AddedToken> special_tokens;
  std::optional<std::string> chat_template;
};

TokenizerConfig read_tokenizer_config(const ModelFolder& folder);

}  // namespace transformers::tokenization
