#pragma once

#include <ostream>
#include <string>
#include <string_view>
#include <vector>

namespace transformers::testing {

/// A value of config.json, as JSON text that need not be valid, and what the error about it must say.
struct RefusedValue {
  std::string key, value;
  std::vector<std::string> fragments{};
};
inline void PrintTo(const RefusedValue& refused, std::ostream* out) { *out << refused.key << ": " << refused.value; }

/// `config`, the text of a config.json, with one key set to a value given as text, or taken out.
std::string with_value(const std::string& config, const std::string& key, std::string_view value);
std::string without_key(const std::string& config, const std::string& key);

/// `config` in the form of transformers 4.x holds, key for key, what a 4.x wrote; more keys are no difference. The
/// goldens' texts name the dtype as 5.x does.
bool holds_old_config(const std::string& config, const std::string& golden);

/// Both texts as parsed JSON are equal, but for the version of transformers that wrote them.
bool same_config(const std::string& first, const std::string& second);

/// For each of `keys`, a size: every value that is no integer in [1, 2^31).
std::vector<RefusedValue> refused_sizes(const std::vector<std::string>& keys);
/// For each of `keys`, a probability.
std::vector<RefusedValue> refused_probabilities(const std::vector<std::string>& keys);

}  // namespace transformers::testing
