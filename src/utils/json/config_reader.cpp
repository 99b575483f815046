// Typed access to the keys of one JSON object. Every access marks its key, so that rest() can return the keys nobody
// read.
#include "utils/json/config_reader.h"

#include <c10/util/Exception.h>

#include <limits>

#include "utils/text/printable.h"

namespace transformers {
namespace {

using Json = nlohmann::ordered_json;

std::string found(const Json& value) {
  if (value.is_null()) {
    return "null";
  }
  return std::string(value.type_name()) + " " + printable(value.is_structured() ? "" : value.dump());
}

/// HF writes infinities and NaN as {"__float__": "Infinity"}.
std::optional<double> tagged_float(const Json& value) {
  if (!value.is_object() || value.size() != 1 || !value.contains("__float__") || !value["__float__"].is_string()) {
    return std::nullopt;
  }
  const auto& text = value["__float__"].get_ref<const std::string&>();
  if (text == "Infinity" || text == "-Infinity") {
    return text[0] == '-' ? -std::numeric_limits<double>::infinity() : std::numeric_limits<double>::infinity();
  }
  return text == "NaN" ? std::make_optional(std::numeric_limits<double>::quiet_NaN()) : std::nullopt;
}

std::optional<double> number(const Json& value) {
  return value.is_number() ? std::make_optional(value.get<double>()) : tagged_float(value);
}

std::optional<int64_t> integer(const Json& value) {
  const bool too_large =
      value.is_number_unsigned() && value.get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
  return value.is_number_integer() && !too_large ? std::make_optional(value.get<int64_t>()) : std::nullopt;
}

}  // namespace

ConfigReader::ConfigReader(const Json& object, const std::string& source)
    : object_(object), source_(printable_line(source)) {
  TORCH_CHECK(object_.is_object(), source_, ": expected a JSON object, found ", found(object_));
}

bool ConfigReader::has(const std::string& key) const {
  const auto entry = object_.find(key);
  return entry != object_.end() && !entry->is_null();
}

bool ConfigReader::is_null(const std::string& key) const {
  const auto entry = object_.find(key);
  return entry != object_.end() && entry->is_null();
}

const Json* ConfigReader::take(const std::string& key) {
  read_.insert(key);
  const auto entry = object_.find(key);
  return entry == object_.end() ? nullptr : &*entry;
}

void ConfigReader::fail(const std::string& key, const std::string& rule) const {
  const auto entry = object_.find(key);
  TORCH_CHECK(false, source_, ": key \"", printable(key), "\" must be ", rule, ", got ",
              entry == object_.end() ? "nothing" : found(*entry));
}

void ConfigReader::guarded(const std::string& key, const std::function<void()>& convert) const {
  try {
    convert();
  } catch (const c10::Error& error) {
    TORCH_CHECK(false, source_, ": key \"", printable(key), "\": ", error.what_without_backtrace());
  }
}

void ConfigReader::read(const std::string& key, int64_t& field) {
  if (const auto* value = take(key)) {
    const auto parsed = integer(*value);
    if (!parsed) {
      fail(key, "a 64-bit integer");
    }
    field = *parsed;
  }
}

void ConfigReader::read(const std::string& key, double& field) {
  if (const auto* value = take(key)) {
    const auto parsed = number(*value);
    if (!parsed) {
      fail(key, "a number");
    }
    field = *parsed;
  }
}

void ConfigReader::read(const std::string& key, bool& field) {
  if (const auto* value = take(key)) {
    if (!value->is_boolean()) {
      fail(key, "true or false");
    }
    field = value->get<bool>();
  }
}

void ConfigReader::read(const std::string& key, std::string& field) {
  if (const auto* value = take(key)) {
    if (!value->is_string()) {
      fail(key, "a string");
    }
    field = value->get<std::string>();
  }
}

void ConfigReader::read(const std::string& key, std::vector<double>& field) {
  if (const auto* value = take(key)) {
    if (!value->is_array()) {
      fail(key, "a list of numbers");
    }
    field.clear();
    for (const auto& element : *value) {
      const auto parsed = number(element);
      if (!parsed) {
        fail(key, "a list of numbers; it holds " + found(element));
      }
      field.push_back(*parsed);
    }
  }
}

void ConfigReader::read(const std::string& key, std::vector<std::string>& field) {
  if (const auto* value = take(key); value != nullptr && !value->is_null()) {
    if (!value->is_array()) {
      fail(key, "a list of strings");
    }
    field.clear();
    for (const auto& element : *value) {
      if (!element.is_string()) {
        fail(key, "a list of strings; it holds " + found(element));
      }
      field.push_back(element.get<std::string>());
    }
  }
}

void ConfigReader::read_one_or_many(const std::string& key, std::vector<int64_t>& field) {
  const auto* value = take(key);
  if (value == nullptr) {
    return;
  }
  field.clear();
  if (value->is_null()) {
    return;
  }
  const auto elements = value->is_array() ? value->get<std::vector<Json>>() : std::vector<Json>{*value};
  for (const auto& element : elements) {
    const auto parsed = integer(element);
    if (!parsed) {
      fail(key, "an integer, a list of integers or null");
    }
    field.push_back(*parsed);
  }
}

void ConfigReader::read_one_or_many(const std::string& key, std::vector<std::string>& field) {
  if (const auto* value = take(key); value != nullptr && value->is_string()) {
    field = {value->get<std::string>()};
  } else {
    read(key, field);
  }
}

std::map<std::string, std::string> ConfigReader::rest() const {
  std::map<std::string, std::string> unread;
  for (const auto& [key, value] : object_.items()) {
    if (!read_.contains(key)) {
      unread.emplace(key, value.dump());
    }
  }
  return unread;
}

}  // namespace transformers
