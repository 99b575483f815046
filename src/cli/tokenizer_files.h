#pragma once

#include <transformers/utils/files/save_transaction.h>

#include <array>
#include <map>
#include <string>

namespace transformers::cli {

/// What belongs to a model beside its config and weights.
inline constexpr std::array kTokenizerFiles{
    "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.json",     "merges.txt",      "chat_template.jinja"};

/// The texts of a folder's tokenizer files by name.
std::map<std::string, std::string> read_tokenizer_files(const std::string& folder);

/// Makes these the tokenizer files of the folder that is saved into; those of an earlier save that are not among them
/// go. An empty map leaves the folder's as they are.
void add_tokenizer_files(SaveTransaction& save, const std::map<std::string, std::string>& files);

}  // namespace transformers::cli
