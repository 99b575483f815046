#pragma once

#include <c10/util/Exception.h>

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "utils/text/printable.h"

namespace transformers {

/// A value and its spelling in config files. If a value has several spellings, the first is written.
template <typename Value>
using NamedValue = std::pair<std::string_view, Value>;

/// Throws with the list of names on an unknown one. `kind` is the kind of name in the message: "rope_type".
template <typename Names>
auto value_of_name(const Names& names, std::string_view kind, std::string_view name) {
  std::string list;
  for (const auto& [known, value] : names) {
    if (known == name) {
      return value;
    }
    list += (list.empty() ? "" : ", ") + std::string(known);
  }
  TORCH_CHECK(false, "unknown ", kind, " \"", printable(name), "\"; known are ", list);
}

/// The names in their order, for a list of choices.
template <typename Names>
std::vector<std::string> names_of(const Names& names) {
  std::vector<std::string> all;
  for (const auto& [name, value] : names) {
    all.emplace_back(name);
  }
  return all;
}

template <typename Names, typename Value>
std::string name_of_value(const Names& names, Value wanted) {
  for (const auto& [known, value] : names) {
    if (value == wanted) {
      return std::string(known);
    }
  }
  TORCH_INTERNAL_ASSERT(false, "value without a name");
}

}  // namespace transformers
