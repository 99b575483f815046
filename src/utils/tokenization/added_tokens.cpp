// Mirrors `AddedVocabulary` of huggingface/tokenizers 0.23.
#include "utils/tokenization/added_tokens.h"

#include <c10/util/Exception.h>

#include <algorithm>

#include "utils/text/printable.h"
#include "utils/text/utf8.h"

namespace transformers::tokenization {
namespace {

size_t white_space_at_end(std::string_view text) {
  size_t end = text.size();
  while (end > 0) {
    const auto character = last_character(text.substr(0, end));
    if (!is_whitespace(character.code)) {
      break;
    }
    end -= character.length;
  }
  return text.size() - end;
}

size_t white_space_at_start(std::string_view text) {
  size_t begin = 0;
  while (begin < text.size()) {
    const auto character = first_character(text.substr(begin));
    if (!is_whitespace(character.code)) {
      break;
    }
    begin += character.length;
  }
  return begin;
}

bool stands_alone(std::string_view before, std::string_view after) {
  return (before.empty() || !is_word(last_character(before).code)) &&
         (after.empty() || !is_word(first_character(after).code));
}

}  // namespace

bool is_same_token(const AddedToken& a, AddedToken b) {
  b.id = a.id;
  return a == b;
}

AddedToken read_added_token(const JsonNode& node, int64_t id) {
  AddedToken token{.id = id, .content = node.at("content").text()};
  token.single_word = node.flag_or("single_word", false);
  token.lstrip = node.flag_or("lstrip", false);
  token.rstrip = node.flag_or("rstrip", false);
  token.special = node.flag_or("special", false);
  token.normalized = node.flag_or("normalized", !token.special);
  TORCH_CHECK(id >= 0 && id <= INT32_MAX, node.path(), ": expected a token id from 0 to 2^31 - 1, found ", id);
  TORCH_CHECK(token.content.size() <= kMaxTokenBytes, node.path(), ": content: expected at most ", kMaxTokenBytes,
              " bytes, found ", token.content.size());
  return token;
}

AddedTokens::AddedTokens(std::vector<AddedToken> tokens, const Normalizer& normalizer) : tokens_(std::move(tokens)) {
  for (size_t i = 0; i < tokens_.size(); ++i) {
    const auto& token = tokens_[i];
    patterns_.push_back(token.normalized && normalizer ? normalizer(token.content) : token.content);
    by_id_.emplace(token.id, i);
    by_content_.emplace(token.content, i);
    (token.normalized ? normalized_ : raw_).insert(patterns_.back(), i);
    if (token.special) {
      special_contents_.insert(token.content);
    }
  }
}

AddedTokens::IsRead AddedTokens::writable_beside(const std::vector<PromptPart>& parts) const {
  std::unordered_set<int64_t> used;
  for (const auto& part : parts) {
    if (const auto* id = std::get_if<int64_t>(&part)) {
      used.insert(*id);
    }
  }
  return [this, used = std::move(used)](const AddedToken& token) {
    return !is_special(token.content) && !used.contains(token.id);
  };
}

std::vector<AddedTokens::Segment> AddedTokens::split(std::string_view text, bool normalized,
                                                     const IsRead& is_read) const {
  const auto& trie = normalized ? normalized_ : raw_;
  std::vector<Segment> segments;
  size_t covered = 0;
  const auto plain_until = [&](size_t end) {
    if (covered < end) {
      segments.push_back({text.substr(covered, end - covered), nullptr});
    }
  };
  for (size_t at = 0; at < text.size();) {
    const auto match = trie.longest_at(text.substr(at));
    if (match.length == 0) {
      ++at;
      continue;
    }
    const auto& token = tokens_[match.value];
    size_t begin = at;
    size_t end = at + match.length;
    at = end;
    if (!is_read(token) || (token.single_word && !stands_alone(text.substr(0, begin), text.substr(end)))) {
      continue;
    }
    if (token.lstrip) {
      begin = std::max(begin - white_space_at_end(text.substr(0, begin)), covered);
    }
    if (token.rstrip) {
      end += white_space_at_start(text.substr(end));
    }
    plain_until(begin);
    segments.push_back({text.substr(begin, end - begin), &token});
    covered = end;
  }
  plain_until(text.size());
  return segments;
}

const AddedToken* AddedTokens::find(int64_t id) const {
  const auto found = by_id_.find(id);
  return found == by_id_.end() ? nullptr : &tokens_[found->second];
}

const AddedToken* AddedTokens::find(const std::string& content) const {
  const auto found = by_content_.find(content);
  return found == by_content_.end() ? nullptr : &tokens_[found->second];
}

const std::string& AddedTokens::decoder_text(const AddedToken& token) const {
  return patterns_[static_cast<size_t>(&token - tokens_.data())];
}

}  // namespace transformers::tokenization
