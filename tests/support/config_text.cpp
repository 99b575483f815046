#include "support/config_text.h"

#include <nlohmann/json.hpp>

namespace transformers::testing {

std::string without_key(const std::string& config, const std::string& key) {
  auto json = nlohmann::json::parse(config);
  json.erase(key);
  return json.dump();
}

std::string with_value(const std::string& config, const std::string& key, std::string_view value) {
  auto text = without_key(config, key);
  text.pop_back();
  return text + ",\"" + key + "\":" + std::string(value) + "}";
}

bool holds_old_config(const std::string& config, const std::string& golden) {
  auto found = nlohmann::json::parse(config), expected = nlohmann::json::parse(golden);
  expected["torch_dtype"] = expected["dtype"];
  expected.erase("dtype");
  for (const auto& [key, value] : expected.items()) {
    if (!found.contains(key) || found[key] != value) {
      return false;
    }
  }
  return !found.contains("dtype") && !found.contains("rope_parameters");
}

bool same_config(const std::string& first, const std::string& second) {
  auto a = nlohmann::json::parse(first), b = nlohmann::json::parse(second);
  a.erase("transformers_version");
  b.erase("transformers_version");
  return a == b;
}

namespace {

std::vector<RefusedValue> product(const std::vector<std::string>& keys, const std::vector<std::string>& values) {
  std::vector<RefusedValue> refused;
  for (const auto& key : keys) {
    for (const auto& value : values) {
      // A number no double holds is refused by the JSON reader, which knows the place and not the key.
      refused.push_back({key, value, value == "1e400" ? std::vector<std::string>{value} : std::vector{key}});
    }
  }
  return refused;
}

}  // namespace

std::vector<RefusedValue> refused_sizes(const std::vector<std::string>& keys) {
  return product(keys, {"\"99\"", "true", "99.0", "99.5", "[1]", "{}", "-1", "0", "2147483648", "9223372036854775808",
                        "36893488147419103232", "1e400"});
}

std::vector<RefusedValue> refused_probabilities(const std::vector<std::string>& keys) {
  return product(keys, {"\"0.1\"", "true", "[0.1]", "-0.1", "1.5", R"({"__float__": "NaN"})", "1e400"});
}

}  // namespace transformers::testing
