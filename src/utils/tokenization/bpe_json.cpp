#include <c10/util/Exception.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "utils/text/printable.h"
#include "utils/text/utf8.h"
#include "utils/tokenization/bpe.h"

namespace transformers::tokenization {
namespace {

TextMap<int32_t> read_vocab(const JsonNode& node) {
  TORCH_CHECK(node.is_object(), node.path(), ": expected an object of tokens and ids");
  TextMap<int32_t> vocab;
  vocab.reserve(node.value().size());
  for (const auto& [token, id] : node.value().items()) {
    const bool fits = id.is_number_integer() && (id.is_number_unsigned() || id.get<int64_t>() >= 0) &&
                      id.get<uint64_t>() <= INT32_MAX;
    TORCH_CHECK(fits, node.path(), ": token ", printable(token), ": expected an id from 0 to 2^31 - 1, found ",
                printable(id.dump()));
    vocab.emplace(token, id.get<int32_t>());
  }
  return vocab;
}

/// "left right" or ["left", "right"].
Bpe::Merge read_merge(const nlohmann::ordered_json& value, const JsonNode& node, size_t index) {
  if (value.is_string()) {
    const auto& text = value.get_ref<const std::string&>();
    const auto space = text.find(' ');
    TORCH_CHECK(space != std::string::npos && text.find(' ', space + 1) == std::string::npos, node.path(), "[", index,
                "]: expected two tokens with one space between, found ", printable(text));
    return {text.substr(0, space), text.substr(space + 1)};
  }
  TORCH_CHECK(value.is_array() && value.size() == 2 && value[0].is_string() && value[1].is_string(), node.path(), "[",
              index, "]: expected a merge as a string or as a pair of strings");
  return {value[0].get<std::string>(), value[1].get<std::string>()};
}

std::vector<Bpe::Merge> read_merges(const JsonNode& node) {
  TORCH_CHECK(node.value().is_array(), node.path(), ": expected an array of merges");
  std::vector<Bpe::Merge> merges;
  size_t index = 0;
  for (const auto& value : node.value()) {
    // This is the first line of a merges.txt; some converters kept it.
    if (!value.is_string() || !value.get_ref<const std::string&>().starts_with("#version")) {
      merges.push_back(read_merge(value, node, index));
    }
    ++index;
  }
  return merges;
}

/// A line of merges.txt.
Bpe::Merge read_merge_line(std::string_view line, const std::string& source, size_t number) {
  const auto space = line.find(' ');
  TORCH_CHECK(space != std::string_view::npos && line.find(' ', space + 1) == std::string_view::npos, source, ": line ",
              number, ": expected two tokens with one space between, found ", printable(line));
  return {std::string(line.substr(0, space)), std::string(line.substr(space + 1))};
}

/// Tokens for byte fallback have the names <0x00> to <0xFF>; anything else that looks like one is an error.
void check_byte_tokens(const TextMap<int32_t>& vocab, const JsonNode& node) {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  for (const auto& [token, id] : vocab) {
    const bool looks_like_byte = token.starts_with("<0x") && token.ends_with('>');
    const bool fits = token.size() == 6 && kDigits.find(token[3]) != std::string_view::npos &&
                      kDigits.find(token[4]) != std::string_view::npos;
    TORCH_CHECK(!looks_like_byte || fits, node.path(), ": expected byte tokens from <0x00> to <0xFF>, found ",
                printable(token), " with id ", id);
  }
}

void refuse_subword_marks(const JsonNode& node) {
  for (const auto* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (!node.optional_text(key).value_or("").empty()) {
      unsupported_component(node, std::string("BPE ") + key);
    }
  }
  if (node.has("dropout") && node.at("dropout").value() != 0) {
    unsupported_component(node, "BPE dropout");
  }
}

}  // namespace

std::unique_ptr<Bpe> make_bpe(const JsonNode& node) {
  if (!node.has("merges")) {
    unsupported_component(node, "model without merges");
  }
  refuse_subword_marks(node);
  const BpeOptions options{.unk_token = node.optional_text("unk_token"),
                           .fuse_unk = node.flag_or("fuse_unk", false),
                           .byte_fallback = node.flag_or("byte_fallback", false),
                           .ignore_merges = node.flag_or("ignore_merges", false)};
  auto vocab = read_vocab(node.at("vocab"));
  if (options.byte_fallback) {
    check_byte_tokens(vocab, node);
  }
  return std::make_unique<Bpe>(std::move(vocab), read_merges(node.at("merges")), options, node.path());
}

std::unique_ptr<Bpe> make_bpe_from_merges(const JsonNode& vocab, std::string_view text, const std::string& source) {
  TORCH_CHECK(is_valid_utf8(text), source, ": is not valid UTF-8");
  std::vector<Bpe::Merge> merges;
  for (size_t number = 1; !text.empty(); ++number) {
    const auto end = std::min(text.find('\n'), text.size());
    auto line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    line.remove_suffix(line.ends_with('\r') ? 1 : 0);
    if (!line.starts_with("#version")) {
      merges.push_back(read_merge_line(line, source, number));
    }
  }
  return std::make_unique<Bpe>(read_vocab(vocab), merges, BpeOptions{}, source);
}

}  // namespace transformers::tokenization
