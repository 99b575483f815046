#include "utils/tokenization/tokenizer_config.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "utils/json/regular_file.h"
#include "utils/json/strict_json.h"
#include "utils/tokenization/utf8.h"

namespace transformers::tokenization {
namespace {

constexpr JsonLimits kLimits{.max_bytes = size_t{16} << 20};
constexpr size_t kMaxTemplateBytes = size_t{1} << 20;

/// A special token is written as a string or as an object with its `content`.
std::optional<std::string> token_text(const JsonNode& node, const char* key) {
  if (!node.has(key)) {
    return std::nullopt;
  }
  const auto token = node.at(key);
  return token.is_object() ? token.at("content").text() : token.text();
}

void read_special_tokens(const JsonNode& node, TokenizerConfig& config) {
  const auto take = [&](const char* key, std::optional<std::string>& token) {
    if (!token) {
      token = token_text(node, key);
    }
  };
  take("bos_token", config.bos_token);
  take("eos_token", config.eos_token);
  take("pad_token", config.pad_token);
  take("unk_token", config.unk_token);
}

int64_t parse_id(const std::string& text, const JsonNode& node) {
  int64_t id = -1;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), id);
  TORCH_CHECK(result.ec == std::errc() && result.ptr == text.data() + text.size(), node.path(),
              ": expected a token id as the key, found ", printable(text));
  return id;
}

void read_added_tokens_decoder(const JsonNode& node, TokenizerConfig& config) {
  for (const auto& [key, token] : node.entries()) {
    config.added_tokens.push_back(read_added_token(token, parse_id(key, token)));
  }
}

/// The template, or the one called "default" of a list of named ones.
std::optional<std::string> read_chat_template(const JsonNode& node) {
  if (!node.has("chat_template") || node.at("chat_template").is_string()) {
    return node.optional_text("chat_template");
  }
  for (const auto& item : node.at("chat_template").items()) {
    if (item.at("name").text() == "default") {
      return item.at("template").text();
    }
  }
  return std::nullopt;
}

void read_main(const JsonNode& node, TokenizerConfig& config) {
  read_special_tokens(node, config);
  if (node.has("add_bos_token")) {
    config.add_bos_token = node.at("add_bos_token").flag();
  }
  if (node.has("add_eos_token")) {
    config.add_eos_token = node.at("add_eos_token").flag();
  }
  config.tokenizer_class = node.optional_text("tokenizer_class").value_or("");
  config.chat_template = read_chat_template(node);
  if (node.has("added_tokens_decoder")) {
    read_added_tokens_decoder(node.at("added_tokens_decoder"), config);
  }
}

/// added_tokens.json maps contents to ids.
void read_added_tokens_file(const JsonNode& node, TokenizerConfig& config) {
  for (const auto& [content, id] : node.entries()) {
    const auto same = [&content = content](const AddedToken& token) { return token.content == content; };
    if (std::ranges::none_of(config.added_tokens, same)) {
      TORCH_CHECK(id.integer() >= 0 && id.integer() <= INT32_MAX, id.path(),
                  ": expected a token id from 0 to 2^31 - 1, found ", id.integer());
      config.added_tokens.push_back({.id = id.integer(), .content = content});
    }
  }
}

template <typename Read>
void read_if_present(const std::string& path, TokenizerConfig& config, Read read) {
  if (file_exists(path)) {
    const auto json = read_json_file(path, kLimits);
    read(JsonNode(json, printable(path)), config);
  }
}

}  // namespace

std::string file_in(const std::string& folder, const char* name) {
  return (std::filesystem::path(folder) / name).string();
}

TokenizerConfig read_tokenizer_config(const std::string& folder) {
  TokenizerConfig config;
  config.path = file_in(folder, "tokenizer_config.json");
  read_if_present(config.path, config, read_main);
  read_if_present(file_in(folder, "special_tokens_map.json"), config, read_special_tokens);
  read_if_present(file_in(folder, "added_tokens.json"), config, read_added_tokens_file);
  const auto jinja = file_in(folder, "chat_template.jinja");
  if (file_exists(jinja)) {
    config.chat_template = read_regular_file(jinja, kMaxTemplateBytes);
    TORCH_CHECK(is_valid_utf8(*config.chat_template), printable(jinja), ": is not valid UTF-8");
  }
  return config;
}

}  // namespace transformers::tokenization
