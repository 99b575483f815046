#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "utils/tokenization/json_node.h"
#include "utils/tokenization/token_model.h"

namespace transformers::tokenization {

struct BpeOptions {
  std::optional<std::string> unk_token = {};
  /// Consecutive unknown characters become one unknown token.
  bool fuse_unk = false;
  /// An unknown character becomes the tokens <0x..> of its bytes, if the vocabulary has all of them.
  bool byte_fallback = false;
  /// A word that is itself a token is not built by merges.
  bool ignore_merges = false;
};

/// Byte-pair encoding of one word. Mirrors HF `models.BPE`.
class Bpe : public TokenModel {
 public:
  using Merge = std::pair<std::string, std::string>;

  /// `source` begins the messages of errors: ids must be unique and below 2^31, merges unique and made of known tokens.
  Bpe(TextMap<int32_t> vocab, const std::vector<Merge>& merges, BpeOptions options, const std::string& source);

  void tokenize(std::string_view word, std::vector<int64_t>& ids) const override;
  size_t vocab_size() const override { return vocab_.size(); }
  std::optional<int64_t> token_to_id(std::string_view token) const override;
  const std::string* id_to_token(int64_t id) const override;
  std::optional<std::string> unk_token() const override { return options_.unk_token; }

 private:
  struct MergeResult {
    int32_t rank, id;
  };
  class Word;

  void add_merge(const Merge& merge, int32_t rank, const std::string& source);
  void add_characters(std::string_view text, Word& word) const;
  bool add_bytes(std::string_view character, Word& word) const;
  int32_t unknown_id() const;
  const MergeResult* merge_of(int32_t left, int32_t right) const;
  std::vector<int32_t> merged(std::string_view text) const;

  TextMap<int32_t> vocab_;
  std::unordered_map<int64_t, const std::string*> tokens_;
  std::unordered_map<uint64_t, MergeResult> merges_;  // left << 32 | right
  BpeOptions options_;
  std::string source_;

  mutable std::mutex cache_mutex_;
  mutable TextMap<std::vector<int32_t>> cache_;
};

/// A `model` of tokenizer.json that is BPE.
std::unique_ptr<Bpe> make_bpe(const JsonNode& node);
/// The model of a vocab.json and the text of a merges.txt, as in GPT-2; errors begin with the name of one of the files.
std::unique_ptr<Bpe> make_bpe_from_merges(const JsonNode& vocab, std::string_view merges, const std::string& source);

}  // namespace transformers::tokenization
