#pragma once

#include <transformers/utils/io/save_transaction.h>

#include <array>
#include <string>

namespace transformers::cli {

/// What belongs to a model beside its config and weights.
inline constexpr std::array kTokenizerFiles{
    "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.json",     "merges.txt",      "chat_template.jinja"};

/// Copies those files into another folder.
void copy_tokenizer(const std::string& from, const std::string& to);
/// The same as part of a save that the caller commits.
void copy_tokenizer(const std::string& from, SaveTransaction& save);

}  // namespace transformers::cli
