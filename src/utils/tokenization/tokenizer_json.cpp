// Mirrors the serialization of huggingface/tokenizers 0.23.
#include <c10/util/Exception.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "utils/files/internal/json_file.h"
#include "utils/tokenization/bpe_pipeline.h"
#include "utils/tokenization/side_tokens.h"

namespace transformers {
namespace {

using namespace tokenization;

/// Ids that post-processors may put around a text.
constexpr size_t kMostTemplateIds = 1024;

struct Template {
  std::vector<int64_t> prefix, suffix;
};

void check_template_size(size_t ids, const JsonNode& node) {
  TORCH_CHECK(ids <= kMostTemplateIds, node.path(), ": expected at most ", kMostTemplateIds,
              " tokens around a text, found more");
}

void append_template_token(const JsonNode& node, const JsonNode& piece, std::vector<int64_t>& ids) {
  const auto added = node.at("special_tokens").at(piece.at("id").text()).at("ids");
  check_template_size(ids.size() + added.value().size(), node);
  for (const auto& id : added.items()) {
    ids.push_back(id.integer());
  }
}

/// What `TemplateProcessing` puts around a single text.
Template read_template(const JsonNode& node) {
  Template result;
  bool after_text = false;
  for (const auto& piece : node.at("single").items()) {
    if (piece.has("SpecialToken")) {
      append_template_token(node, piece.at("SpecialToken"), after_text ? result.suffix : result.prefix);
    } else if (piece.has("Sequence") && piece.at("Sequence").at("id").text() == "A" && !after_text) {
      after_text = true;
    } else {
      unsupported_component(piece, "template piece");
    }
  }
  if (!after_text) {
    unsupported_component(node, "template without the text");
  }
  return result;
}

void apply_post_processor(const JsonNode& node, BpeTokenizer::Pipeline& pipeline) {
  const auto& type = node.at("type").text();
  if (type == "Sequence") {
    for (const auto& item : node.at("processors").items()) {
      apply_post_processor(item, pipeline);
    }
  } else if (type == "TemplateProcessing") {
    const auto around = read_template(node);
    pipeline.prefix.insert(pipeline.prefix.begin(), around.prefix.begin(), around.prefix.end());
    pipeline.suffix.insert(pipeline.suffix.end(), around.suffix.begin(), around.suffix.end());
    check_template_size(pipeline.prefix.size() + pipeline.suffix.size(), node);
  } else if (type != "ByteLevel") {  // which changes offsets only
    unsupported_component(node, "post_processor " + type);
  }
}

/// If a text occurs again with the same id, the later entry counts.
std::vector<AddedToken> read_added_tokens(const JsonNode& root) {
  std::vector<AddedToken> tokens;
  std::unordered_map<std::string, size_t> places;
  for (const auto& item : root.has("added_tokens") ? root.at("added_tokens").items() : std::vector<JsonNode>{}) {
    auto token = read_added_token(item, item.at("id").integer());
    const auto [place, is_new] = places.emplace(token.content, tokens.size());
    if (!is_new && tokens[place->second].id == token.id) {
      tokens[place->second] = std::move(token);
    } else {
      tokens.push_back(std::move(token));
    }
  }
  return tokens;
}

void check_template_ids(const BpeTokenizer::Pipeline& pipeline, const std::string& source) {
  for (const auto* ids : {&pipeline.prefix, &pipeline.suffix}) {
    for (const auto id : *ids) {
      TORCH_CHECK(pipeline.id_to_token(id) != nullptr, source, ": post_processor: there is no token with id ", id);
    }
  }
}

}  // namespace

std::shared_ptr<BpeTokenizer> BpeTokenizer::from_tokenizer_json(const ModelFolder& folder) {
  const auto path = folder.file("tokenizer.json");
  const auto json = read_json_file(path, {.max_bytes = kMaxTokenizerBytes});
  const JsonNode root(json, printable(path));
  const auto version = root.optional_text("version").value_or("1.0");
  TORCH_CHECK(version == "1.0", root.path(), ": version: expected 1.0, found ", printable(version));

  const auto config = read_tokenizer_config(folder);
  auto model = make_token_model(root.at("model"));
  auto normalizer = root.has("normalizer") ? make_normalizer(root.at("normalizer")) : Normalizer();
  AddedTokens added(with_side_tokens(read_added_tokens(root), config, vocabulary_of(*model)), normalizer);
  auto pipeline = std::make_shared<Pipeline>(Pipeline{
      .model = std::move(model),
      .added = std::move(added),
      .normalizer = std::move(normalizer),
      .pre_tokenizer = root.has("pre_tokenizer") ? make_pre_tokenizer(root.at("pre_tokenizer")) : PreTokenizer(),
      .decoder = root.has("decoder") ? make_decoder(root.at("decoder")) : make_spaces_decoder()});
  if (root.has("post_processor")) {
    apply_post_processor(root.at("post_processor"), *pipeline);
  }
  check_template_ids(*pipeline, root.path());
  pipeline->settle(config, root.path());
  return std::make_shared<BpeTokenizer>(std::move(pipeline));
}

}  // namespace transformers
