// Mirrors `decoders` of huggingface/tokenizers 0.23, as a stream.
#include "utils/tokenization/decoder.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <utility>

#include "utils/text/byte_level.h"
#include "utils/text/text_budget.h"
#include "utils/text/utf8.h"
#include "utils/tokenization/component_patterns.h"

namespace transformers::tokenization {
namespace {

/// True for a step whose result is one token in fragments; a step that needs whole tokens cannot follow it.
bool joins_tokens(const DecoderStep& step) {
  return std::holds_alternative<FuseStep>(step) || std::holds_alternative<ByteLevelStep>(step);
}

bool needs_whole_tokens(const DecoderStep& step) {
  return std::holds_alternative<ReplaceStep>(step) || std::holds_alternative<ByteFallbackStep>(step) ||
         std::holds_alternative<ByteLevelStep>(step);
}

StripStep make_strip(const JsonNode& node) {
  if (node.at("stop").integer() != 0) {
    unsupported_component(node, "decoder Strip with a stop other than 0");
  }
  TORCH_CHECK(!node.at("content").text().empty(), node.path(), ": content: expected a character, found none");
  return {node.at("content").text(), node.at("start").integer()};
}

DecoderStep make_step(const JsonNode& node) {
  const auto& type = node.at("type").text();
  if (type == "ByteLevel") {
    return ByteLevelStep{};
  }
  if (type == "Replace") {
    return ReplaceStep{make_pattern(node.at("pattern")), node.at("content").text()};
  }
  if (type == "ByteFallback") {
    return ByteFallbackStep{};
  }
  if (type == "Fuse") {
    return FuseStep{};
  }
  if (type == "Strip") {
    return make_strip(node);
  }
  if (type == "Metaspace") {
    return MetaspaceStep{read_metaspace(node)};
  }
  unsupported_component(node, "decoder " + type);
}

void append_steps(const JsonNode& node, std::vector<DecoderStep>& steps) {
  if (node.at("type").text() == "Sequence") {
    for (const auto& item : node.at("decoders").items()) {
      append_steps(item, steps);
    }
    return;
  }
  auto step = make_step(node);
  if (needs_whole_tokens(step) && std::ranges::any_of(steps, joins_tokens)) {
    unsupported_component(node, "decoder " + node.at("type").text() + " after one that joins all tokens");
  }
  steps.push_back(std::move(step));
}

size_t size_of(const Fragments& fragments) {
  size_t size = 0;
  for (const auto& fragment : fragments) {
    size += fragment.text.size();
  }
  return size;
}

}  // namespace

void ReplaceStep::push(const Fragment& token, Fragments& out) const {
  out.push_back({replace_all(token.text, pattern, content, text_budget(token.text.size()))});
}

void ByteFallbackStep::push(const Fragment& token, Fragments& out) {
  if (const auto byte = byte_of_token(token.text)) {
    run += *byte;
    return;
  }
  finish(out);
  out.push_back(token);
}

void ByteFallbackStep::finish(Fragments& out) {
  if (run.empty()) {
    return;
  }
  if (is_valid_utf8(run)) {
    out.push_back({std::exchange(run, {})});
    return;
  }
  out.insert(out.end(), run.size(), {std::string(kReplacementCharacter)});
  run.clear();
}

void FuseStep::push(const Fragment& fragment, Fragments& out) {
  out.push_back({fragment.text, !started});
  started = true;
}

void StripStep::push(const Fragment& fragment, Fragments& out) {
  if (fragment.starts_token) {
    remaining = count;
  }
  std::string_view text = fragment.text;
  while (remaining > 0 && text.starts_with(content)) {
    text.remove_prefix(content.size());
    --remaining;
  }
  if (!text.empty()) {
    remaining = 0;
  }
  out.push_back({std::string(text), fragment.starts_token});
}

void ByteLevelStep::push(const Fragment& token, Fragments& out) {
  unfinished += characters_to_bytes(token.text).value_or(token.text);
  emit(finished_length(unfinished), out);
}

void ByteLevelStep::finish(Fragments& out) { emit(unfinished.size(), out); }

void ByteLevelStep::emit(size_t length, Fragments& out) {
  out.push_back({valid_utf8(std::string_view(unfinished).substr(0, length)), !started});
  unfinished.erase(0, length);
  started = true;
}

void MetaspaceStep::push(const Fragment& fragment, Fragments& out) {
  tokens += fragment.starts_token;
  const bool drop = tokens == 1 && metaspace.prepend_scheme != Metaspace::PrependScheme::kNever;
  const auto replacement = literal_pattern(metaspace.replacement);
  out.push_back(
      {replace_all(fragment.text, replacement, drop ? "" : " ", fragment.text.size()), fragment.starts_token});
}

void SpacesStep::push(const Fragment& token, Fragments& out) {
  out.push_back({started ? " " + token.text : token.text});
  started = true;
}

std::string Decoder::run(Fragments fragments, bool finishing) {
  held_ += size_of(fragments);
  const auto budget = text_budget(held_);
  for (auto& step : steps_) {
    Fragments next;
    const auto take = [&](auto& one) {
      for (const auto& fragment : fragments) {
        one.push(fragment, next);
      }
      if (finishing) {
        one.finish(next);
      }
    };
    std::visit(take, step);
    check_text_budget(size_of(next), budget, "the decoder");
    fragments = std::move(next);
  }
  std::string text;
  for (const auto& fragment : fragments) {
    text += fragment.text;
  }
  return text;
}

std::string Decoder::push(std::string token) { return run({{std::move(token)}}, /*finishing=*/false); }

std::string Decoder::finish() { return run({}, /*finishing=*/true); }

Decoder make_decoder(const JsonNode& node) {
  std::vector<DecoderStep> steps;
  append_steps(node, steps);
  return Decoder(std::move(steps));
}

Decoder make_byte_level_decoder() { return Decoder({ByteLevelStep{}}); }

Decoder make_spaces_decoder() { return Decoder({SpacesStep{}}); }

}  // namespace transformers::tokenization
