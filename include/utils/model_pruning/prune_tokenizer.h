#pragma once

#include <transformers/export.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace TRANSFORMERS_API transformers {

/// Tokenizer files for a model that has kept a part of its vocabulary.
struct PrunedTokenizer {
  /// File name to content; vocab_map.json, from old ids to new ones, is always among them.
  std::map<std::string, std::string> files{};
  /// Why there is no tokenizer among the files; empty when there is, or when the folder has none.
  std::string refusal{};
};

/// Rewrites a folder's tokenizer.json (BPE) with tokenizer_config.json, special_tokens_map.json, added_tokens.json and
/// chat_template.jinja for the tokens that are kept, renumbered by their positions in `vocabulary` (ascending old ids).
/// Merges whose parts or result are removed are removed too. The new tokenizer encodes every text with the kept tokens
/// and decodes it again; texts that used removed tokens are split differently. Where that is impossible (a single
/// character or byte, a special token or the unknown token is removed; not a BPE; another kind of file), only the map
/// of ids is returned, with the reason. Throws on files that are not valid JSON.
PrunedTokenizer prune_tokenizer(const std::string& folder, const std::vector<int64_t>& vocabulary);

}  // namespace transformers
