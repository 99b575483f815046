#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace transformers {

/// Collects the fields of a JSON object and writes it as Python's `json.dumps(..., indent=2, sort_keys=True)` does,
/// with infinities and NaN as in HF: {"__float__": "Infinity"}.
class ConfigWriter {
 public:
  /// for_transformers_4: fields whose form changed with transformers 5 are written in the earlier form.
  explicit ConfigWriter(bool for_transformers_4 = false) : for_transformers_4_(for_transformers_4) {}
  bool for_transformers_4() const { return for_transformers_4_; }

  template <typename Value>
  void write(const std::string& key, const Value& value) {
    object_[key] = value;
  }
  /// Writes null when the value is unset.
  template <typename Value>
  void write(const std::string& key, const std::optional<Value>& value) {
    object_[key] = value ? nlohmann::json(*value) : nlohmann::json();
  }
  /// Omits the key when the value is unset.
  template <typename Value>
  void write_if_set(const std::string& key, const std::optional<Value>& value) {
    if (value) {
      object_[key] = *value;
    }
  }
  /// Writes null, one integer or a list.
  void write_one_or_many(const std::string& key, const std::vector<int64_t>& values) {
    object_[key] = values.empty()       ? nlohmann::json()
                   : values.size() == 1 ? nlohmann::json(values.front())
                                        : nlohmann::json(values);
  }
  /// `text` must be JSON that a strict reader has accepted.
  void write_raw(const std::string& key, const std::string& text) { object_[key] = nlohmann::json::parse(text); }
  bool contains(const std::string& key) const { return object_.contains(key); }
  bool empty() const { return object_.empty(); }
  std::string text() const;

 private:
  nlohmann::json object_ = nlohmann::json::object();
  bool for_transformers_4_;
};

}  // namespace transformers
