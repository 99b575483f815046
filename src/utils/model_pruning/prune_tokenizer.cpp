// The format is that of huggingface/tokenizers 0.23 and of transformers' tokenizer_config.json.
#include <c10/util/Exception.h>
#include <transformers/utils/model_pruning/prune_tokenizer.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "utils/files/internal/json_file.h"
#include "utils/files/internal/regular_file.h"
#include "utils/files/internal/save_journal.h"

namespace transformers {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;
using NewIds = std::unordered_map<int64_t, int64_t>;

constexpr JsonLimits kLimits{.max_bytes = size_t{64} << 20};

/// The reason why a tokenizer cannot be rewritten exactly; caught before it leaves this file.
struct Refusal {
  std::string reason;
};

int64_t new_id(const Json& id, const NewIds& ids) {
  if (!id.is_number_integer()) {
    throw Refusal{"an id is no integer: " + printable(id.dump())};
  }
  const auto found = ids.find(id.get<int64_t>());
  return found == ids.end() ? -1 : found->second;
}

const Json& member(const Json& object, const char* key) {
  if (!object.is_object() || !object.contains(key)) {
    throw Refusal{std::string("tokenizer.json has no \"") + key + "\""};
  }
  return object[key];
}

/// One character, or one byte as <0x0A>, from which all longer tokens are made.
bool is_elementary(const std::string& token, bool byte_fallback) {
  const bool is_byte = token.size() == 6 && token.starts_with("<0x") && token.ends_with('>');
  return byte_fallback ? is_byte : utf8_length(token) == token.size();
}

bool flag(const Json& object, const char* key) {
  return object.contains(key) && object[key].is_boolean() && object[key].get<bool>();
}

/// The tokens that are kept, in the order of their new ids.
Json pruned_vocab(const Json& model, const NewIds& ids) {
  std::map<int64_t, std::string> left;
  for (const auto& [token, id] : member(model, "vocab").items()) {
    const auto number = new_id(id, ids);
    if (number >= 0) {
      left[number] = token;
    } else if (is_elementary(token, flag(model, "byte_fallback"))) {
      throw Refusal{"the token \"" + printable(token) + "\" is gone, text with it could not be encoded"};
    }
  }
  Json vocab = Json::object();
  // Assigning by key would search through all entries each time.
  auto& entries = static_cast<std::vector<std::pair<const std::string, Json>>&>(vocab.get_ref<Json::object_t&>());
  for (const auto& [number, token] : left) {
    entries.emplace_back(token, number);
  }
  return vocab;
}

/// "left right" or ["left", "right"].
std::pair<std::string, std::string> merge_parts(const Json& merge) {
  if (merge.is_string()) {
    const auto text = merge.get<std::string>();
    const auto space = text.find(' ');
    return {text.substr(0, space), space == std::string::npos ? "" : text.substr(space + 1)};
  }
  if (!merge.is_array() || merge.size() != 2 || !merge[0].is_string() || !merge[1].is_string()) {
    throw Refusal{"a merge is neither a string nor a pair"};
  }
  return {merge[0].get<std::string>(), merge[1].get<std::string>()};
}

Json pruned_merges(const Json& merges, const Json& vocab) {
  std::unordered_map<std::string, bool> stays;
  for (const auto& [token, id] : vocab.items()) {
    stays[token] = true;
  }
  Json left = Json::array();
  for (const auto& merge : merges) {
    const auto [first, second] = merge_parts(merge);
    if (stays.contains(first) && stays.contains(second) && stays.contains(first + second)) {
      left.push_back(merge);
    }
  }
  return left;
}

void prune_model_part(Json& model, const NewIds& ids) {
  if (model.value("type", "BPE") != "BPE" || !model.contains("merges")) {
    throw Refusal{"its tokenizer is not a BPE"};
  }
  auto vocab = pruned_vocab(model, ids);
  if (model.contains("unk_token") && model["unk_token"].is_string() &&
      !vocab.contains(model["unk_token"].get<std::string>())) {
    throw Refusal{"the unknown token is gone"};
  }
  model["merges"] = pruned_merges(model["merges"], vocab);
  model["vocab"] = std::move(vocab);
}

/// The tokens that a template puts around every text.
void renumber_post_processor(Json& processor, const NewIds& ids) {
  if (!processor.is_object()) {
    return;
  }
  const auto type = processor.value("type", "");
  if (type == "Sequence") {
    for (auto& part : processor.at("processors")) {
      renumber_post_processor(part, ids);
    }
  } else if (type == "TemplateProcessing") {
    for (auto& token : processor.at("special_tokens")) {
      for (auto& id : token.at("ids")) {
        id = new_id(id, ids);
        if (id == -1) {
          throw Refusal{"a special token that is put around every text is gone"};
        }
      }
    }
  } else if (type != "ByteLevel") {
    throw Refusal{"its post-processor " + printable(type) + " is not known"};
  }
}

Json pruned_added_tokens(const Json& tokens, const NewIds& ids) {
  Json left = Json::array();
  for (auto token : tokens) {
    token["id"] = new_id(member(token, "id"), ids);
    if (token["id"] != -1) {
      left.push_back(std::move(token));
    }
  }
  return left;
}

std::string pruned_tokenizer_json(Json json, const NewIds& ids) {
  member(json, "model");
  prune_model_part(json["model"], ids);
  if (json.contains("added_tokens")) {
    json["added_tokens"] = pruned_added_tokens(json["added_tokens"], ids);
  }
  if (json.contains("post_processor")) {
    renumber_post_processor(json["post_processor"], ids);
  }
  return json.dump(2) + "\n";
}

/// A special token that stands in a config as text must still be a token.
void check_special_tokens(const Json& config, const Json& tokenizer) {
  const auto known = [](const Json& json, const std::string& token) {
    const auto& added = json.value("added_tokens", Json::array());
    return json["model"]["vocab"].contains(token) || std::any_of(added.begin(), added.end(), [&](const Json& entry) {
             return entry.value("content", "") == token;
           });
  };
  for (const auto& [key, value] : config.items()) {
    const auto content = value.is_object() && value.contains("content") ? value["content"] : value;
    if (key.ends_with("_token") && content.is_string() && !known(tokenizer, content.get<std::string>())) {
      throw Refusal{"the special token \"" + printable(content.get<std::string>()) + "\" is gone"};
    }
  }
}

/// `added_tokens_decoder`: tokens by id, as text.
std::string pruned_tokenizer_config(Json config, const NewIds& ids) {
  if (config.contains("added_tokens_decoder")) {
    std::map<int64_t, Json> left;
    for (const auto& [id, token] : config["added_tokens_decoder"].items()) {
      const bool is_id = !id.empty() && id.size() < 12 && id.find_first_not_of("0123456789") == std::string::npos;
      if (const auto number = is_id ? new_id(std::stoll(id), ids) : -1; number >= 0) {
        left[number] = token;
      }
    }
    Json decoder = Json::object();
    for (auto& [id, token] : left) {
      decoder[std::to_string(id)] = std::move(token);
    }
    config["added_tokens_decoder"] = std::move(decoder);
  }
  return config.dump(2) + "\n";
}

/// added_tokens.json: ids by content.
std::string pruned_added_tokens_file(const Json& tokens, const NewIds& ids) {
  Json left = Json::object();
  for (const auto& [content, id] : tokens.items()) {
    if (const auto number = new_id(id, ids); number >= 0) {
      left[content] = number;
    }
  }
  return left.dump(2) + "\n";
}

void add_tokenizer(const fs::path& folder, const NewIds& ids, std::map<std::string, std::string>& files) {
  const auto has = [&](const char* name) { return file_exists((folder / name).string()); };
  const auto read = [&](const char* name) { return read_json_file((folder / name).string(), kLimits); };
  if (!has("tokenizer.json")) {
    if (has("tokenizer.model") || has("vocab.json")) {
      throw Refusal{"only tokenizer.json can be rewritten"};
    }
    return;
  }
  std::map<std::string, std::string> rewritten{{"tokenizer.json", pruned_tokenizer_json(read("tokenizer.json"), ids)}};
  const auto tokenizer = Json::parse(rewritten["tokenizer.json"]);
  for (const auto* name : {"tokenizer_config.json", "special_tokens_map.json"}) {
    if (has(name)) {
      const auto config = read(name);
      check_special_tokens(config, tokenizer);
      rewritten[name] = pruned_tokenizer_config(config, ids);
    }
  }
  if (has("added_tokens.json")) {
    rewritten["added_tokens.json"] = pruned_added_tokens_file(read("added_tokens.json"), ids);
  }
  if (has("chat_template.jinja")) {
    rewritten["chat_template.jinja"] = read_regular_file((folder / "chat_template.jinja").string(), size_t{1} << 20);
  }
  files.merge(rewritten);
}

std::string id_map(const std::vector<int64_t>& vocabulary) {
  std::string text = "{";
  for (size_t i = 0; i < vocabulary.size(); ++i) {
    text += (i == 0 ? "\n  \"" : ",\n  \"") + std::to_string(vocabulary[i]) + "\": " + std::to_string(i);
  }
  return text + "\n}\n";
}

}  // namespace

PrunedTokenizer prune_tokenizer(const std::string& folder, const std::vector<int64_t>& vocabulary) {
  NewIds ids;
  for (size_t i = 0; i < vocabulary.size(); ++i) {
    ids[vocabulary[i]] = static_cast<int64_t>(i);
  }
  PrunedTokenizer pruned{.files = {{"vocab_map.json", id_map(vocabulary)}}};
  try {
    add_tokenizer(folder, ids, pruned.files);
  } catch (const Refusal& refusal) {
    pruned.refusal = refusal.reason;
  } catch (const nlohmann::json::exception& error) {
    pruned.refusal = std::string("its files are not laid out as expected: ") + error.what();
  }
  return pruned;
}

}  // namespace transformers
