#pragma once

#include <transformers/export.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace TRANSFORMERS_API transformers {

/// Tokenizer files for a model that kept a part of its vocabulary.
struct PrunedTokenizer {
  /// File name to content; vocab_map.json, from old ids to new ones, is always among them.
  std::map<std::string, std::string> files{};
  /// Why there is no tokenizer among the files; empty when there is, or when the folder has none.
  std::string refusal{};
};

/// Rewrites a folder's tokenizer.json (BPE) with tokenizer_config.json, special_tokens_map.json, added_tokens.json and
/// chat_template.jinja for the tokens that stay, renumbered by their places in `vocabulary` (ascending old ids). Merges
/// whose parts or result are gone go too. The new tokenizer encodes every text, into tokens that stayed, and decodes it
/// back; texts whose tokens were taken split otherwise than before. Where that cannot be (a single character or byte, a
/// special token or the unknown token is gone; not a BPE; another kind of file), only the map of ids is given, with
/// the reason. Throws on files that are no valid JSON.
PrunedTokenizer prune_tokenizer(const std::string& folder, const std::vector<int64_t>& vocabulary);

}  // namespace transformers
