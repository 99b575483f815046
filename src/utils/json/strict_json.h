#pragma once

// The room utils/json reads and writes JSON that may be hostile: a strict parser (this header), typed access to the
// keys of an object (config_reader.h) and output as Python writes it (config_writer.h). It reads no files; that is done
// by utils/files.
//
//     const auto json = parse_strict_json(text, "config.json");
//     ConfigReader reader(json, "config.json");
//     reader.read("hidden_size", hidden_size);

#include <cstddef>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "utils/text/printable.h"

namespace transformers {

/// Limits and rules for untrusted JSON. In addition to violations of the grammar, these are errors: a byte order mark,
/// a NUL byte, invalid UTF-8, the same key twice in one object, numbers beyond double, deep nesting, a second value and
/// comments. Integers beyond 64 bits become floating-point numbers. Each error is one sentence that begins with
/// `source` and names the byte or the key.
struct JsonLimits {
  size_t max_bytes = 1 << 20;
  int max_depth = 64;
  /// Limit for a value that is kept as a whole, as two bytes of text can take fifty bytes of memory.
  size_t max_values = 4'000'000;
};

/// Parses the whole value, with the keys of objects in the order of the text. HF's {"__float__": "Infinity"} is treated
/// like any other object.
nlohmann::ordered_json parse_strict_json(std::string_view text, const std::string& source, JsonLimits limits = {});

/// Receives a JSON text piece by piece, for readers that must not keep all of it.
class JsonVisitor {
 public:
  virtual ~JsonVisitor() = default;
  /// A string, number, boolean or null.
  virtual void scalar(nlohmann::ordered_json value) = 0;
  virtual void begin(bool is_object) = 0;
  virtual void key(std::string name) = 0;
  virtual void end() = 0;
};

/// Calls a visitor under the rules above, except for repeated keys, which the visitor has to check.
void visit_strict_json(std::string_view text, const std::string& source, JsonVisitor& visitor, JsonLimits limits = {});

}  // namespace transformers
