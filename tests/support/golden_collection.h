#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "support/golden.h"

namespace transformers::testing {

/// One call of a golden file that holds many; the layout stands at the head of scripts/goldens/collection.py.
struct GoldenCase {
  std::string name;
  nlohmann::json arguments;  // those that are no tensors
  std::map<std::string, at::Tensor> tensors;

  bool has(const std::string& argument) const {
    return arguments.contains(argument) && !arguments.at(argument).is_null();
  }
  template <typename Value>
  Value get(const std::string& argument) const {
    return arguments.at(argument).get<Value>();
  }
  template <typename Value>
  std::optional<Value> optional(const std::string& argument) const {
    return has(argument) ? std::make_optional(get<Value>(argument)) : std::nullopt;
  }
  /// Undefined when the case does not hold it, as results that were None.
  at::Tensor tensor(const std::string& name) const;
};

/// The calls of tests/golden/<folder>/<name>.safetensors.
std::vector<GoldenCase> golden_cases(const std::string& folder, const std::string& name);

}  // namespace transformers::testing
