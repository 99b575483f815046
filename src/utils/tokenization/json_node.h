#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace transformers::tokenization {

/// A value of a JSON file together with its path, so that each error names file and key.
class JsonNode {
 public:
  /// `value` must outlive the node; `path` is the file, e.g. "dir/tokenizer.json".
  JsonNode(const nlohmann::ordered_json& value, std::string path) : value_(&value), path_(std::move(path)) {}

  /// True when the object holds the key and its value is not null.
  bool has(std::string_view key) const;
  JsonNode at(std::string_view key) const;
  /// The elements of an array.
  std::vector<JsonNode> items() const;
  /// Keys and values of an object, in the file's order.
  std::vector<std::pair<std::string, JsonNode>> entries() const;

  bool is_null() const;
  bool is_object() const;
  bool is_string() const;
  const std::string& text() const;
  bool flag() const;
  int64_t integer() const;
  bool flag_or(std::string_view key, bool otherwise) const;
  std::optional<std::string> optional_text(std::string_view key) const;

  const nlohmann::ordered_json& value() const { return *value_; }
  const std::string& path() const { return path_; }

 private:
  JsonNode child(const nlohmann::ordered_json& value, const std::string& name) const;
  void expect(bool fits, const char* expected) const;

  const nlohmann::ordered_json* value_;
  std::string path_;
};

/// Throws for a part of a tokenizer file that is not implemented: `what` names it.
[[noreturn]] void unsupported_component(const JsonNode& node, const std::string& what);

}  // namespace transformers::tokenization
