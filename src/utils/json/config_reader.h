#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace transformers {

/// Reads the fields of one JSON object strictly: a field of the wrong type is an error that names file, key, expected
/// and found type. An integer is accepted where a float is wanted; nothing else is converted. An absent key leaves the
/// field unchanged; null unsets an optional field.
class ConfigReader {
 public:
  /// `source` begins every message. Throws when `object` is not a JSON object.
  ConfigReader(const nlohmann::ordered_json& object, const std::string& source);

  void read(const std::string& key, int64_t& field);
  void read(const std::string& key, double& field);
  void read(const std::string& key, bool& field);
  void read(const std::string& key, std::string& field);
  void read(const std::string& key, std::vector<double>& field);
  void read(const std::string& key, std::vector<std::string>& field);
  /// One integer or a list of them; null or absent leaves the list empty.
  void read_one_or_many(const std::string& key, std::vector<int64_t>& field);
  /// One string or a list of them; null is read as absent.
  void read_one_or_many(const std::string& key, std::vector<std::string>& field);
  template <typename Value>
  void read(const std::string& key, std::optional<Value>& field) {
    if (is_null(key)) {
      field.reset();
      take(key);
    } else if (Value value{}; has(key)) {
      read(key, value);
      field = std::move(value);
    }
  }
  /// Null is read as absent.
  template <typename Value>
  void read_if_set(const std::string& key, Value& field) {
    if (has(key)) {
      read(key, field);
    }
    ignore(key);
  }
  /// Reads a string that `from_name` converts to a value; its errors are prefixed with source and key.
  template <typename Value>
  void read_named(const std::string& key, Value& field, const std::function<Value(std::string_view)>& from_name) {
    if (std::string name; has(key)) {
      read(key, name);
      guarded(key, [&] { field = from_name(name); });
    }
  }

  /// Whether the key is present, even if its value is null.
  bool holds(const std::string& key) const { return object_.contains(key); }
  /// Whether the key is present and not null.
  bool has(const std::string& key) const;
  /// Returns the raw value and marks it as read; a null pointer when the key is absent.
  const nlohmann::ordered_json* take(const std::string& key);
  /// Marks a key as known without reading it.
  void ignore(const std::string& key) { read_.insert(key); }
  /// Every key that has not been read, with its value as JSON text.
  std::map<std::string, std::string> rest() const;
  const std::string& source() const { return source_; }

  /// "file: key "x" must be ..., got ...".
  [[noreturn]] void fail(const std::string& key, const std::string& rule) const;

 private:
  bool is_null(const std::string& key) const;
  void guarded(const std::string& key, const std::function<void()>& convert) const;

  const nlohmann::ordered_json& object_;
  std::string source_;
  std::set<std::string> read_;
};

}  // namespace transformers
