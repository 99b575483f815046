// Mirrors `models::unigram` of huggingface/tokenizers 0.23: `encode_optimized`, scores in double precision; of equally
// good segmentations the first is kept.
#include "utils/tokenization/unigram.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "utils/text/printable.h"
#include "utils/text/utf8.h"

namespace transformers::tokenization {
namespace {

/// By how much the score of an unknown character is lower than that of the worst piece.
constexpr double kUnknownPenalty = 10.0;

std::pair<std::string, double> read_piece(const JsonNode& node) {
  const auto& value = node.value();
  TORCH_CHECK(value.is_array() && value.size() == 2 && value[0].is_string() && value[1].is_number(), node.path(),
              ": expected a piece and its score");
  const auto& piece = value[0].get_ref<const std::string&>();
  TORCH_CHECK(piece.size() <= kMaxTokenBytes, node.path(), ": expected a piece of at most ", kMaxTokenBytes,
              " bytes, found ", piece.size());
  return {piece, value[1].get<double>()};
}

}  // namespace

Unigram::Unigram(std::vector<std::pair<std::string, double>> pieces, std::optional<int64_t> unk_id, bool byte_fallback,
                 const std::string& source)
    : pieces_(std::move(pieces)),
      unk_id_(unk_id),
      byte_fallback_(byte_fallback),
      lowest_score_(std::numeric_limits<double>::infinity()),
      source_(source) {
  TORCH_CHECK(!unk_id || (*unk_id >= 0 && *unk_id < static_cast<int64_t>(pieces_.size())), source,
              ": unk_id: expected the id of a piece, below ", pieces_.size(), ", found ", *unk_id);
  for (size_t id = 0; id < pieces_.size(); ++id) {
    const auto& [piece, score] = pieces_[id];
    ids_[piece] = static_cast<int64_t>(id);
    lowest_score_ = std::min(lowest_score_, score);
  }
  for (const auto& [piece, id] : ids_) {
    trie_.insert(piece, static_cast<size_t>(id));
  }
}

std::optional<int64_t> Unigram::token_to_id(std::string_view token) const {
  const auto found = ids_.find(token);
  return found == ids_.end() ? std::nullopt : std::optional(found->second);
}

const std::string* Unigram::id_to_token(int64_t id) const {
  return id < 0 || id >= static_cast<int64_t>(pieces_.size()) ? nullptr : &pieces_[static_cast<size_t>(id)].first;
}

std::optional<std::string> Unigram::unk_token() const {
  return unk_id_ ? std::optional(pieces_[static_cast<size_t>(*unk_id_)].first) : std::nullopt;
}

int64_t Unigram::unknown_id() const {
  TORCH_CHECK(unk_id_, source_, ": a character is in no piece, and there is no unk_id");
  return *unk_id_;
}

std::vector<Unigram::Step> Unigram::best_steps(std::string_view word) const {
  std::vector<Step> steps(word.size() + 1);
  const auto offer = [&](size_t begin, size_t end, int64_t id, double score) {
    auto& step = steps[end];
    if (const auto total = score + steps[begin].score; !step.begin || total > step.score) {
      step = {id, total, begin};
    }
  };
  for (size_t begin = 0; begin < word.size();) {
    const auto length = first_character(word.substr(begin)).length;
    bool is_known = false;
    trie_.for_each_prefix(word.substr(begin), [&](const TextTrie::Match& match) {
      const auto score = pieces_[match.value].second;
      offer(begin, begin + match.length, static_cast<int64_t>(match.value), score);
      is_known |= match.length == length;
    });
    if (!is_known) {
      offer(begin, begin + length, unknown_id(), lowest_score_ - kUnknownPenalty);
    }
    begin += length;
  }
  return steps;
}

std::vector<std::string_view> Unigram::best_pieces(std::string_view word) const {
  const auto steps = best_steps(word);
  std::vector<std::string_view> pieces;
  bool fuse = false;
  for (size_t end = word.size(); end > 0;) {
    const auto begin = *steps[end].begin;
    const bool is_unknown = steps[end].id == unk_id_;
    if (fuse && is_unknown) {
      pieces.back() = word.substr(begin, pieces.back().size() + end - begin);
    } else {
      pieces.push_back(word.substr(begin, end - begin));
    }
    fuse = is_unknown;
    end = begin;
  }
  std::ranges::reverse(pieces);
  return pieces;
}

bool Unigram::add_bytes(std::string_view text, std::vector<int64_t>& ids) const {
  std::vector<int64_t> bytes;
  for (const char byte : text) {
    const auto id = token_to_id(byte_token(static_cast<unsigned char>(byte)));
    if (!id) {
      return false;
    }
    bytes.push_back(*id);
  }
  ids.insert(ids.end(), bytes.begin(), bytes.end());
  return true;
}

void Unigram::tokenize(std::string_view word, std::vector<int64_t>& ids) const {
  for (const auto piece : best_pieces(word)) {
    if (const auto id = token_to_id(piece)) {
      ids.push_back(*id);
    } else if (!byte_fallback_ || !add_bytes(piece, ids)) {
      ids.push_back(unknown_id());
    }
  }
}

std::unique_ptr<Unigram> make_unigram(const JsonNode& node) {
  std::vector<std::pair<std::string, double>> pieces;
  for (const auto& piece : node.at("vocab").items()) {
    pieces.push_back(read_piece(piece));
  }
  const auto unk_id = node.has("unk_id") ? std::optional(node.at("unk_id").integer()) : std::nullopt;
  return std::make_unique<Unigram>(std::move(pieces), unk_id, node.flag_or("byte_fallback", false), node.path());
}

}  // namespace transformers::tokenization
