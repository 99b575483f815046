#include "utils/tokenization/side_tokens.h"

#include <algorithm>
#include <unordered_map>

namespace transformers::tokenization {
namespace {

/// Grows a list of added tokens as `Tokenizer.add_tokens` of huggingface/tokenizers does.
class Adder {
 public:
  Adder(std::vector<AddedToken> tokens, const BaseVocabulary& vocabulary)
      : tokens_(std::move(tokens)), vocabulary_(vocabulary) {
    for (size_t i = 0; i < tokens_.size(); ++i) {
      places_.emplace(tokens_[i].content, i);
      highest_ = std::max(highest_, tokens_[i].id);
    }
  }

  /// Null when no token has this content.
  const AddedToken* find(const std::string& content) const {
    const auto place = places_.find(content);
    return place == places_.end() ? nullptr : &tokens_[place->second];
  }

  void add(AddedToken token) {
    if (const auto place = places_.find(token.content); place != places_.end()) {
      token.id = tokens_[place->second].id;
      tokens_[place->second] = std::move(token);
      return;
    }
    token.id = vocabulary_.id_of(token.content).value_or(next_id());
    highest_ = std::max(highest_, token.id);
    places_.emplace(token.content, tokens_.size());
    tokens_.push_back(std::move(token));
  }

  std::vector<AddedToken> take() { return std::move(tokens_); }

 private:
  int64_t next_id() const { return std::max(highest_ + 1, vocabulary_.size); }

  std::vector<AddedToken> tokens_;
  std::unordered_map<std::string, size_t> places_;
  const BaseVocabulary& vocabulary_;
  int64_t highest_ = -1;
};

}  // namespace

BaseVocabulary vocabulary_of(const TokenModel& model) {
  return {static_cast<int64_t>(model.vocab_size()),
          [&model](std::string_view text) { return model.token_to_id(text); }};
}

std::vector<AddedToken> with_side_tokens(std::vector<AddedToken> tokens, const TokenizerConfig& config,
                                         const BaseVocabulary& vocabulary) {
  Adder adder(std::move(tokens), vocabulary);
  auto stated = config.added_tokens;
  std::ranges::stable_sort(stated, {}, &AddedToken::id);
  for (const auto& token : stated) {
    const auto* known = adder.find(token.content);
    if (!token.content.empty() && (known == nullptr || !is_same_token(*known, token))) {
      adder.add(token);
    }
  }
  for (const auto& token : config.special_tokens) {
    if (!token.content.empty() && adder.find(token.content) == nullptr) {
      adder.add(token);
    }
  }
  return adder.take();
}

}  // namespace transformers::tokenization
