// Mirrors `TikTokenConverter` of transformers 5.23 (convert_slow_tokenizer.py).
#include "utils/tokenization/rank_file.h"

#include <c10/util/Exception.h>
#include <transformers/utils/tokenization/bpe_tokenizer.h>

#include <algorithm>
#include <charconv>
#include <tuple>

#include "utils/files/internal/regular_file.h"
#include "utils/text/base64.h"
#include "utils/text/byte_level.h"
#include "utils/text/printable.h"
#include "utils/tokenization/bpe_pipeline.h"
#include "utils/tokenization/side_tokens.h"

namespace transformers {
namespace tokenization {
namespace {

constexpr size_t kMaxRankedBytes = 256;

std::string_view take_line(std::string_view& text) {
  const auto end = std::min(text.find('\n'), text.size());
  auto line = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  if (line.ends_with('\r')) {
    line.remove_suffix(1);
  }
  return line;
}

struct RankLine {
  std::string bytes;
  int32_t rank;
};

std::optional<RankLine> parse_line(std::string_view line) {
  const auto space = line.find(' ');
  if (space == std::string_view::npos) {
    return std::nullopt;
  }
  auto bytes = decode_base64(line.substr(0, space));
  int32_t rank = -1;
  const auto result = std::from_chars(line.data() + space + 1, line.data() + line.size(), rank);
  const bool fits =
      bytes && !bytes->empty() && result.ec == std::errc() && rank >= 0 && result.ptr == line.data() + line.size();
  return fits ? std::optional(RankLine{std::move(*bytes), rank}) : std::nullopt;
}

TextMap<int32_t> read_ranks(std::string_view text, const std::string& source) {
  TextMap<int32_t> ranks;
  for (size_t number = 1; !text.empty(); ++number) {
    const auto line = take_line(text);
    if (line.empty()) {
      continue;
    }
    const auto parsed = parse_line(line);
    TORCH_CHECK(parsed, source, ": line ", number, ": expected a base64 token, a space and a rank, found ",
                printable(line));
    TORCH_CHECK(parsed->bytes.size() <= kMaxRankedBytes, source, ": line ", number, ": expected a token of at most ",
                kMaxRankedBytes, " bytes, found ", parsed->bytes.size());
    TORCH_CHECK(ranks.emplace(parsed->bytes, parsed->rank).second, source, ": line ", number, ": the token ",
                printable(line), " is listed twice");
  }
  return ranks;
}

void check_all_bytes(const TextMap<int32_t>& ranks, const std::string& source) {
  for (int byte = 0; byte < 256; ++byte) {
    TORCH_CHECK(ranks.contains(std::string(1, static_cast<char>(byte))), source, ": the byte ", byte,
                " has no rank, so not every text could be encoded");
  }
}

struct Split {
  int32_t rank, left, right;
  size_t left_size;
  const std::string* bytes;
};

/// All ways to cut a token into two tokens, in the order of rank, then of the ranks of the halves.
std::vector<Split> all_splits(const TextMap<int32_t>& ranks) {
  std::vector<Split> splits;
  for (const auto& [bytes, rank] : ranks) {
    const std::string_view token = bytes;
    for (size_t cut = 1; cut < token.size(); ++cut) {
      const auto left = ranks.find(token.substr(0, cut));
      const auto right = ranks.find(token.substr(cut));
      if (left != ranks.end() && right != ranks.end()) {
        splits.push_back({rank, left->second, right->second, cut, &bytes});
      }
    }
  }
  std::ranges::sort(splits, [](const Split& a, const Split& b) {
    return std::tie(a.rank, a.left, a.right) < std::tie(b.rank, b.left, b.right);
  });
  return splits;
}

}  // namespace

bool looks_like_rank_file(std::string_view text) { return parse_line(take_line(text)).has_value(); }

std::unique_ptr<Bpe> make_bpe_from_ranks(std::string_view text, const std::string& source) {
  const auto ranks = read_ranks(text, source);
  check_all_bytes(ranks, source);
  TextMap<int32_t> vocab;
  for (const auto& [bytes, rank] : ranks) {
    vocab.emplace(bytes_to_characters(bytes), rank);
  }
  std::vector<Bpe::Merge> merges;
  for (const auto& split : all_splits(ranks)) {
    merges.emplace_back(bytes_to_characters(split.bytes->substr(0, split.left_size)),
                        bytes_to_characters(split.bytes->substr(split.left_size)));
  }
  return std::make_unique<Bpe>(std::move(vocab), merges, BpeOptions{.ignore_merges = true}, source);
}

}  // namespace tokenization

std::shared_ptr<BpeTokenizer> BpeTokenizer::from_rank_file(const ModelFolder& folder) {
  using namespace tokenization;
  constexpr const char* kLlama3Regex =
      R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
  const auto path = folder.file("tokenizer.model");
  const auto source = printable(path);
  const auto text = read_regular_file(path, kMaxTokenizerBytes);
  const auto config = read_tokenizer_config(folder);
  auto model = make_bpe_from_ranks(text, source);
  auto tokens = with_side_tokens(config.added_tokens, config, vocabulary_of(*model));
  auto pipeline = std::make_shared<Pipeline>(Pipeline{.model = std::move(model),
                                                      .added = AddedTokens(std::move(tokens), {}),
                                                      .normalizer = {},
                                                      .pre_tokenizer = make_regex_byte_level(kLlama3Regex),
                                                      .decoder = make_byte_level_decoder()});
  pipeline->settle(config, source);
  pipeline->add_bos_and_eos(config);
  return std::make_shared<BpeTokenizer>(std::move(pipeline));
}

}  // namespace transformers
