#include "utils/tokenization/json_node.h"

#include <c10/util/Exception.h>

#include <nlohmann/json.hpp>

#include "utils/text/printable.h"

namespace transformers::tokenization {

JsonNode JsonNode::child(const nlohmann::ordered_json& value, const std::string& name) const {
  return {value, path_ + ": " + printable(name)};
}

void JsonNode::expect(bool fits, const char* expected) const {
  TORCH_CHECK(fits, path_, ": expected ", expected, ", found ", value_->type_name());
}

bool JsonNode::has(std::string_view key) const {
  expect(value_->is_object(), "an object");
  const auto found = value_->find(key);
  return found != value_->end() && !found->is_null();
}

JsonNode JsonNode::at(std::string_view key) const {
  TORCH_CHECK(has(key), path_, ": the key ", printable(key), " is missing");
  return child(*value_->find(key), std::string(key));
}

std::vector<JsonNode> JsonNode::items() const {
  expect(value_->is_array(), "an array");
  std::vector<JsonNode> nodes;
  for (const auto& item : *value_) {
    nodes.emplace_back(item, path_ + "[" + std::to_string(nodes.size()) + "]");
  }
  return nodes;
}

std::vector<std::pair<std::string, JsonNode>> JsonNode::entries() const {
  expect(value_->is_object(), "an object");
  std::vector<std::pair<std::string, JsonNode>> nodes;
  for (const auto& [key, value] : value_->items()) {
    nodes.emplace_back(key, child(value, key));
  }
  return nodes;
}

bool JsonNode::is_null() const { return value_->is_null(); }
bool JsonNode::is_object() const { return value_->is_object(); }
bool JsonNode::is_string() const { return value_->is_string(); }

const std::string& JsonNode::text() const {
  expect(value_->is_string(), "a string");
  return value_->get_ref<const std::string&>();
}

bool JsonNode::flag() const {
  expect(value_->is_boolean(), "true or false");
  return value_->get<bool>();
}

int64_t JsonNode::integer() const {
  // The parser has made integers beyond 64 bits doubles; those beyond 63 bits would become negative.
  expect(value_->is_number_integer() && (!value_->is_number_unsigned() || value_->get<uint64_t>() <= INT64_MAX),
         "an integer");
  return value_->get<int64_t>();
}

bool JsonNode::flag_or(std::string_view key, bool otherwise) const { return has(key) ? at(key).flag() : otherwise; }

std::optional<std::string> JsonNode::optional_text(std::string_view key) const {
  return has(key) ? std::optional(at(key).text()) : std::nullopt;
}

void unsupported_component(const JsonNode& node, const std::string& what) {
  TORCH_CHECK(false, node.path(), ": unsupported component ", printable(what));
  std::abort();
}

}  // namespace transformers::tokenization
