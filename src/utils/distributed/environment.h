#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace transformers {

/// A variable of the environment; nullopt when it is unset or empty.
std::optional<std::string> environment_variable(const char* name);
/// Throws when it is missing.
std::string required_variable(const char* name);
/// Throws when it is missing or not an integer in [least, most].
int64_t required_integer(const char* name, int64_t least, int64_t most);

}  // namespace transformers
