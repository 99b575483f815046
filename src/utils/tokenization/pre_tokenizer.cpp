// Mirrors `pre_tokenizers` of huggingface/tokenizers 0.23.
#include "utils/tokenization/pre_tokenizer.h"

#include <c10/util/Exception.h>

#include "utils/text/byte_level.h"
#include "utils/text/printable.h"
#include "utils/text/text_budget.h"
#include "utils/text/utf8.h"
#include "utils/tokenization/component_patterns.h"

namespace transformers::tokenization {
namespace {

constexpr const char* kGpt2Regex = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

std::vector<Piece> cut(const Piece& piece, const Pattern& pattern, SplitBehavior behavior) {
  std::vector<Piece> pieces;
  for (const auto part : split(piece.text, pattern(piece.text), behavior)) {
    pieces.push_back({std::string(part), piece.at_start && part.data() == piece.text.data()});
  }
  return pieces;
}

PreTokenizer make_cut(Pattern pattern, SplitBehavior behavior) {
  return [pattern = std::move(pattern), behavior](const Piece& piece) { return cut(piece, pattern, behavior); };
}

/// The pieces that a step makes from pieces; together they may have at most `budget` bytes.
std::vector<Piece> apply(const PreTokenizer& step, const std::vector<Piece>& pieces, size_t budget) {
  std::vector<Piece> next;
  size_t size = 0;
  for (const auto& part : pieces) {
    for (auto& piece : step(part)) {
      size += piece.text.size();
      next.push_back(std::move(piece));
    }
    check_text_budget(size, budget, "the pre_tokenizer");
  }
  return next;
}

PreTokenizer chain(std::vector<PreTokenizer> steps) {
  return [steps = std::move(steps)](const Piece& piece) {
    std::vector<Piece> pieces{piece};
    for (const auto& step : steps) {
      pieces = apply(step, pieces, text_budget(piece.text.size()));
    }
    return pieces;
  };
}

/// A step that gives each piece the text that `rewrite(piece)` returns.
template <typename Rewrite>
PreTokenizer make_rewrite(Rewrite rewrite) {
  return [rewrite = std::move(rewrite)](const Piece& piece) {
    std::vector<Piece> pieces;
    pieces.push_back({rewrite(piece), piece.at_start});
    return pieces;
  };
}

PreTokenizer make_spell_bytes() {
  return make_rewrite([](const Piece& piece) { return bytes_to_characters(piece.text); });
}

PreTokenizer byte_level(bool add_prefix_space, bool use_regex) {
  std::vector<PreTokenizer> steps;
  if (add_prefix_space) {
    steps.push_back(
        make_rewrite([](const Piece& piece) { return piece.text.starts_with(' ') ? piece.text : " " + piece.text; }));
  }
  if (use_regex) {
    steps.push_back(make_cut(regex_pattern(kGpt2Regex, "GPT-2's regex"), SplitBehavior::kIsolated));
  }
  steps.push_back(make_spell_bytes());
  return chain(std::move(steps));
}

PreTokenizer make_digits(const JsonNode& node) {
  return make_cut(character_pattern(is_numeric),
                  node.flag_or("individual_digits", false) ? SplitBehavior::kIsolated : SplitBehavior::kContiguous);
}

SplitBehavior split_behavior(const JsonNode& node) {
  const auto& name = node.text();
  if (name == "Removed") {
    return SplitBehavior::kRemoved;
  }
  if (name == "Isolated") {
    return SplitBehavior::kIsolated;
  }
  if (name == "MergedWithPrevious") {
    return SplitBehavior::kMergedWithPrevious;
  }
  if (name == "MergedWithNext") {
    return SplitBehavior::kMergedWithNext;
  }
  if (name == "Contiguous") {
    return SplitBehavior::kContiguous;
  }
  unsupported_component(node, "split behavior " + name);
}

PreTokenizer make_punctuation(const JsonNode& node) {
  return make_cut(character_pattern(is_punctuation),
                  node.has("behavior") ? split_behavior(node.at("behavior")) : SplitBehavior::kIsolated);
}

PreTokenizer make_split(const JsonNode& node) {
  auto pattern = make_pattern(node.at("pattern"));
  if (node.flag_or("invert", false)) {
    pattern = [inner = std::move(pattern)](std::string_view text) {
      auto spans = inner(text);
      for (auto& span : spans) {
        span.is_match = !span.is_match;
      }
      return spans;
    };
  }
  return make_cut(std::move(pattern), split_behavior(node.at("behavior")));
}

PreTokenizer make_metaspace(const JsonNode& node) {
  const auto metaspace = read_metaspace(node);
  std::vector<PreTokenizer> steps;
  steps.push_back(make_rewrite([metaspace, space = literal_pattern(" ")](const Piece& piece) {
    using enum Metaspace::PrependScheme;
    auto text = replace_all(piece.text, space, metaspace.replacement, text_budget(piece.text.size()));
    const bool wanted = metaspace.prepend_scheme == kAlways || (metaspace.prepend_scheme == kFirst && piece.at_start);
    if (wanted && !text.starts_with(metaspace.replacement)) {
      text.insert(0, metaspace.replacement);
    }
    return text;
  }));
  if (node.flag_or("split", true)) {
    steps.push_back(make_cut(literal_pattern(metaspace.replacement), SplitBehavior::kMergedWithNext));
  }
  return chain(std::move(steps));
}

PreTokenizer make_sequence(const JsonNode& node) {
  std::vector<PreTokenizer> steps;
  for (const auto& item : node.at("pretokenizers").items()) {
    steps.push_back(make_pre_tokenizer(item));
  }
  return chain(std::move(steps));
}

}  // namespace

Metaspace read_metaspace(const JsonNode& node) {
  using enum Metaspace::PrependScheme;
  const auto character = node.at("replacement");
  TORCH_CHECK(!character.text().empty() && first_character(character.text()).length == character.text().size(),
              character.path(), ": expected one character, found ", printable(character.text()));
  const auto scheme = node.optional_text("prepend_scheme").value_or("always");
  TORCH_CHECK(scheme == "always" || scheme == "first" || scheme == "never", node.path(),
              ": prepend_scheme: expected always, first or never, found ", printable(scheme));
  // Older files have add_prefix_space in place of this key.
  const bool never = scheme == "never" || !node.flag_or("add_prefix_space", true);
  return {character.text(), never ? kNever : scheme == "first" ? kFirst : kAlways};
}

PreTokenizer make_regex_byte_level(const std::string& regex) {
  return chain({make_cut(regex_pattern(regex, "the split regex"), SplitBehavior::kIsolated), make_spell_bytes()});
}

PreTokenizer make_gpt2_byte_level(bool add_prefix_space) { return byte_level(add_prefix_space, /*use_regex=*/true); }

PreTokenizer make_pre_tokenizer(const JsonNode& node) {
  const auto& type = node.at("type").text();
  if (type == "Sequence") {
    return make_sequence(node);
  }
  if (type == "ByteLevel") {
    return byte_level(node.at("add_prefix_space").flag(), node.flag_or("use_regex", true));
  }
  if (type == "Digits") {
    return make_digits(node);
  }
  if (type == "Punctuation") {
    return make_punctuation(node);
  }
  if (type == "Split") {
    return make_split(node);
  }
  if (type == "Metaspace") {
    return make_metaspace(node);
  }
  unsupported_component(node, "pre_tokenizer " + type);
}

}  // namespace transformers::tokenization
