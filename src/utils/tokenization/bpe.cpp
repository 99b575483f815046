// Mirrors `models::bpe` of huggingface/tokenizers 0.23.
#include "utils/tokenization/bpe.h"

#include <c10/util/Exception.h>

#include <queue>
#include <tuple>

#include "utils/text/printable.h"
#include "utils/text/utf8.h"

namespace transformers::tokenization {
namespace {

constexpr size_t kCacheWords = 20'000;
constexpr size_t kCacheWordBytes = 256;

}  // namespace

std::string byte_token(unsigned char byte) {
  constexpr const char* kDigits = "0123456789ABCDEF";
  return std::string("<0x") + kDigits[byte >> 4] + kDigits[byte & 15] + ">";
}

/// The symbols of a word as a linked list that merges shorten.
class Bpe::Word {
 public:
  void add(int32_t id) {
    const auto size = static_cast<int64_t>(symbols_.size());
    if (size > 0) {
      symbols_.back().next = size;
    }
    symbols_.push_back({id, size - 1, -1, true});
  }

  std::vector<int32_t> merge(const Bpe& bpe) {
    for (size_t i = 0; i + 1 < symbols_.size(); ++i) {
      enqueue(bpe, static_cast<int64_t>(i));
    }
    while (!queue_.empty()) {
      const auto best = queue_.top();
      queue_.pop();
      apply(bpe, best);
    }
    std::vector<int32_t> ids;
    for (const auto& symbol : symbols_) {
      if (symbol.alive) {
        ids.push_back(symbol.id);
      }
    }
    return ids;
  }

 private:
  struct Symbol {
    int32_t id;
    int64_t previous, next;
    bool alive;
  };
  struct Candidate {
    int32_t rank;
    int64_t position;
    int32_t id;
    bool operator>(const Candidate& other) const {
      return std::tie(rank, position) > std::tie(other.rank, other.position);
    }
  };

  void enqueue(const Bpe& bpe, int64_t position) {
    if (position < 0 || symbols_[position].next < 0) {
      return;
    }
    const auto& symbol = symbols_[position];
    if (const auto* merge = bpe.merge_of(symbol.id, symbols_[symbol.next].id)) {
      queue_.push({merge->rank, position, merge->id});
    }
  }

  void apply(const Bpe& bpe, const Candidate& candidate) {
    auto& symbol = symbols_[candidate.position];
    if (!symbol.alive || symbol.next < 0) {
      return;
    }
    auto& right = symbols_[symbol.next];
    // An entry is out of date if its symbols have been merged with others since.
    const auto* merge = bpe.merge_of(symbol.id, right.id);
    if (merge == nullptr || merge->id != candidate.id) {
      return;
    }
    symbol.id = candidate.id;
    symbol.next = right.next;
    right.alive = false;
    if (right.next >= 0) {
      symbols_[right.next].previous = candidate.position;
    }
    enqueue(bpe, symbol.previous);
    enqueue(bpe, candidate.position);
  }

  std::vector<Symbol> symbols_;
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue_;
};

Bpe::Bpe(TextMap<int32_t> vocab, const std::vector<Merge>& merges, BpeOptions options, const std::string& source)
    : vocab_(std::move(vocab)), options_(std::move(options)), source_(source) {
  for (const auto& [token, id] : vocab_) {
    const auto [other, inserted] = tokens_.emplace(id, &token);
    TORCH_CHECK(inserted, source, ": the vocabulary gives id ", id, " to both ", printable(*other->second), " and ",
                printable(token));
  }
  TORCH_CHECK(merges.size() <= INT32_MAX, source, ": too many merges");
  merges_.reserve(merges.size());
  for (size_t i = 0; i < merges.size(); ++i) {
    add_merge(merges[i], static_cast<int32_t>(i), source);
  }
}

void Bpe::add_merge(const Merge& merge, int32_t rank, const std::string& source) {
  const auto id = [&](const std::string& token) {
    const auto found = vocab_.find(token);
    TORCH_CHECK(found != vocab_.end(), source, ": merge ", rank, " (", printable(merge.first), " ",
                printable(merge.second), ") names ", printable(token), ", which is not in the vocabulary");
    return found->second;
  };
  const auto key = static_cast<uint64_t>(id(merge.first)) << 32 | static_cast<uint64_t>(id(merge.second));
  const bool inserted = merges_.try_emplace(key, MergeResult{rank, id(merge.first + merge.second)}).second;
  TORCH_CHECK(inserted, source, ": merge ", rank, " (", printable(merge.first), " ", printable(merge.second),
              ") is listed twice");
}

const Bpe::MergeResult* Bpe::merge_of(int32_t left, int32_t right) const {
  const auto found = merges_.find(static_cast<uint64_t>(left) << 32 | static_cast<uint64_t>(right));
  return found == merges_.end() ? nullptr : &found->second;
}

int32_t Bpe::unknown_id() const {
  const auto found = vocab_.find(*options_.unk_token);
  TORCH_CHECK(found != vocab_.end(), source_, ": the unknown token ", printable(*options_.unk_token),
              " is not in the vocabulary");
  return found->second;
}

bool Bpe::add_bytes(std::string_view character, Word& word) const {
  std::vector<int32_t> ids;
  for (const char byte : character) {
    const auto found = vocab_.find(byte_token(static_cast<unsigned char>(byte)));
    if (found == vocab_.end()) {
      return false;
    }
    ids.push_back(found->second);
  }
  for (const auto id : ids) {
    word.add(id);
  }
  return true;
}

void Bpe::add_characters(std::string_view text, Word& word) const {
  // An unknown token is held back, since the next unknown character may be fused with it.
  bool unknown = false;
  const auto flush = [&] {
    if (unknown) {
      word.add(unknown_id());
    }
    unknown = false;
  };
  while (!text.empty()) {
    const auto character = text.substr(0, first_character(text).length);
    text.remove_prefix(character.size());
    if (const auto found = vocab_.find(character); found != vocab_.end()) {
      flush();
      word.add(found->second);
    } else if (options_.byte_fallback && add_bytes(character, word)) {
      continue;
    } else if (options_.unk_token) {
      if (!options_.fuse_unk) {
        flush();
      }
      unknown = true;
    }
  }
  flush();
}

std::vector<int32_t> Bpe::merged(std::string_view text) const {
  if (options_.ignore_merges) {
    if (const auto whole = vocab_.find(text); whole != vocab_.end()) {
      return {whole->second};
    }
  }
  Word word;
  add_characters(text, word);
  return word.merge(*this);
}

void Bpe::tokenize(std::string_view word, std::vector<int64_t>& ids) const {
  {
    const std::scoped_lock lock(cache_mutex_);
    if (const auto found = cache_.find(word); found != cache_.end()) {
      ids.insert(ids.end(), found->second.begin(), found->second.end());
      return;
    }
  }
  auto tokens = merged(word);
  ids.insert(ids.end(), tokens.begin(), tokens.end());
  if (word.size() <= kCacheWordBytes) {
    const std::scoped_lock lock(cache_mutex_);
    if (cache_.size() < kCacheWords) {
      cache_.try_emplace(std::string(word), std::move(tokens));
    }
  }
}

std::optional<int64_t> Bpe::token_to_id(std::string_view token) const {
  const auto found = vocab_.find(token);
  return found == vocab_.end() ? std::nullopt : std::optional<int64_t>(found->second);
}

const std::string* Bpe::id_to_token(int64_t id) const {
  const auto found = tokens_.find(id);
  return found == tokens_.end() ? nullptr : found->second;
}

}  // namespace transformers::tokenization
