// Reads the side files of a tokenizer (tokenizer_config.json, special_tokens_map.json, added_tokens.json and
// chat_template.jinja) in HF's order of precedence.
#include "utils/tokenization/tokenizer_config.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <map>
#include <nlohmann/json.hpp>

#include "utils/files/internal/folder_json.h"
#include "utils/files/internal/regular_file.h"
#include "utils/text/printable.h"
#include "utils/text/utf8.h"

namespace transformers::tokenization {
namespace {

constexpr JsonLimits kLimits{.max_bytes = size_t{16} << 20};
constexpr size_t kMaxTemplateBytes = size_t{1} << 20;

/// Named special tokens, in HF's order (`SPECIAL_TOKENS_ATTRIBUTES`).
constexpr std::array kNamedTokens{"bos_token", "eos_token", "unk_token", "sep_token",
                                  "pad_token", "cls_token", "mask_token"};
constexpr std::array kExtraTokens{"additional_special_tokens", "extra_special_tokens"};

/// A special token is written as a string or as an object with its `content` and flags.
AddedToken read_special_token(const JsonNode& node) {
  auto token = node.is_object() ? read_added_token(node, /*id=*/0) : AddedToken{.id = 0, .content = node.text()};
  TORCH_CHECK(token.content.size() <= kMaxTokenBytes, node.path(), ": expected a token of at most ", kMaxTokenBytes,
              " bytes, found ", token.content.size());
  token.special = true;
  return token;
}

/// Special tokens as the files name them; later ones replace earlier ones.
class SpecialTokens {
 public:
  void read(const JsonNode& node) {
    for (const auto* name : kNamedTokens) {
      if (node.value().contains(name)) {
        named_[name] = node.has(name) ? std::optional(read_special_token(node.at(name))) : std::nullopt;
      }
    }
    read_model_specific(node);
    for (const auto* key : kExtraTokens) {
      if (node.has(key)) {
        read_extra(node.at(key), key);
      }
    }
  }

  void set_default(const std::string& name, const std::string& content) {
    named_.try_emplace(name, AddedToken{.id = 0, .content = content, .special = true});
  }

  std::optional<std::string> content(const std::string& name) const {
    const auto found = named_.find(name);
    return found != named_.end() && found->second ? std::optional(found->second->content) : std::nullopt;
  }

  std::vector<AddedToken> in_order() const {
    std::vector<AddedToken> tokens;
    for (const auto* name : kNamedTokens) {
      if (const auto found = named_.find(name); found != named_.end() && found->second) {
        tokens.push_back(*found->second);
      }
    }
    tokens.insert(tokens.end(), model_specific_.begin(), model_specific_.end());
    const auto& extra = extra_.contains("extra_special_tokens") ? extra_.at("extra_special_tokens") : additional();
    tokens.insert(tokens.end(), extra.begin(), extra.end());
    return tokens;
  }

 private:
  std::vector<AddedToken> additional() const {
    const auto found = extra_.find("additional_special_tokens");
    return found == extra_.end() ? std::vector<AddedToken>{} : found->second;
  }

  /// Further keys that end in `_token` and hold one, such as image_token.
  void read_model_specific(const JsonNode& node) {
    for (const auto& [key, value] : node.entries()) {
      const bool is_token = value.is_string() || (value.is_object() && value.has("content"));
      if (key.ends_with("_token") && is_token && std::ranges::find(kNamedTokens, key) == kNamedTokens.end()) {
        model_specific_.push_back(read_special_token(value));
      }
    }
  }

  /// A list of tokens, or an object of tokens with names of their own.
  void read_extra(const JsonNode& node, const char* key) {
    if (node.is_object()) {
      for (const auto& [name, token] : node.entries()) {
        model_specific_.push_back(read_special_token(token));
      }
      return;
    }
    auto& tokens = extra_[key];
    tokens.clear();
    for (const auto& token : node.items()) {
      tokens.push_back(read_special_token(token));
    }
  }

  std::map<std::string, std::optional<AddedToken>> named_;
  std::vector<AddedToken> model_specific_;
  std::map<std::string, std::vector<AddedToken>> extra_;
};

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
  if (node.has("add_bos_token")) {
    config.add_bos_token = node.at("add_bos_token").flag();
  }
  if (node.has("add_eos_token")) {
    config.add_eos_token = node.at("add_eos_token").flag();
  }
  config.add_prefix_space = node.flag_or("add_prefix_space", false);
  config.tokenizer_class = node.optional_text("tokenizer_class").value_or("");
  config.chat_template = read_chat_template(node);
  if (node.has("added_tokens_decoder")) {
    read_added_tokens_decoder(node.at("added_tokens_decoder"), config);
  }
}

/// added_tokens.json maps contents to ids; a token that another file names as special is special.
void read_added_tokens_file(const JsonNode& node, const std::vector<AddedToken>& special, TokenizerConfig& config) {
  for (const auto& [content, id] : node.entries()) {
    TORCH_CHECK(id.integer() >= 0 && id.integer() <= INT32_MAX, id.path(),
                ": expected a token id from 0 to 2^31 - 1, found ", id.integer());
    TORCH_CHECK(content.size() <= kMaxTokenBytes, id.path(), ": expected a token of at most ", kMaxTokenBytes,
                " bytes, found ", content.size());
    const bool is_special = std::ranges::find(special, content, &AddedToken::content) != special.end();
    config.added_tokens.push_back(
        {.id = id.integer(), .content = content, .normalized = !is_special, .special = is_special});
  }
}

template <typename Read>
void read_if_present(const ModelFolder& folder, const char* name, Read read) {
  if (folder.contains(name)) {
    read(JsonNode(folder_json(folder, name, kLimits), printable(folder.file(name))));
  }
}

/// The defaults of the class in transformers, where the files say nothing.
void set_class_defaults(const TokenizerConfig& config, SpecialTokens& special) {
  if (config.tokenizer_class.starts_with("GPT2Tokenizer")) {
    for (const auto* name : {"bos_token", "eos_token", "unk_token"}) {
      special.set_default(name, "<|endoftext|>");
    }
  }
}

void take_special_tokens(const SpecialTokens& special, TokenizerConfig& config) {
  config.bos_token = special.content("bos_token");
  config.eos_token = special.content("eos_token");
  config.pad_token = special.content("pad_token");
  config.unk_token = special.content("unk_token");
  config.special_tokens = special.in_order();
}

}  // namespace

TokenizerConfig read_tokenizer_config(const ModelFolder& folder) {
  TokenizerConfig config;
  SpecialTokens special;
  bool has_decoder = false;
  config.path = folder.file("tokenizer_config.json");
  read_if_present(folder, "tokenizer_config.json", [&](const JsonNode& node) {
    read_main(node, config);
    special.read(node);
    has_decoder = node.has("added_tokens_decoder");
  });
  if (!has_decoder) {  // as in HF, which reads the older files only in this case
    read_if_present(folder, "special_tokens_map.json", [&](const JsonNode& node) { special.read(node); });
    read_if_present(folder, "added_tokens.json",
                    [&](const JsonNode& node) { read_added_tokens_file(node, special.in_order(), config); });
  }
  set_class_defaults(config, special);
  take_special_tokens(special, config);
  if (folder.contains("chat_template.jinja")) {
    const auto jinja = folder.file("chat_template.jinja");
    config.chat_template = read_regular_file(jinja, kMaxTemplateBytes);
    TORCH_CHECK(is_valid_utf8(*config.chat_template), printable(jinja), ": is not valid UTF-8");
  }
  return config;
}

}  // namespace transformers::tokenization
