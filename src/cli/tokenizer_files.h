#pragma once

#include <transformers/utils/files/save_transaction.h>

#include <array>
#include <map>
#include <string>

namespace transformers::cli {

/// The files of a model besides its config and weights.
inline constexpr std::array kTokenizerFiles{
    "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.json",     "merges.txt",      "chat_template.jinja"};

/// The contents of a folder's tokenizer files, by name.
std::map<std::string, std::string> read_tokenizer_files(const std::string& folder);

/// Makes these the tokenizer files of the save's folder and removes others of an earlier save. An empty map changes
/// nothing.
void add_tokenizer_files(SaveTransaction& save, const std::map<std::string, std::string>& files);

}  // namespace transformers::cli
