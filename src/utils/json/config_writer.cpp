#include "utils/json/config_writer.h"

#include <cmath>

namespace transformers {
namespace {

/// JSON cannot express these values, and nlohmann's writer would write null.
nlohmann::json with_tagged_floats(nlohmann::json value) {
  if (value.is_structured()) {
    for (auto& item : value) {
      item = with_tagged_floats(std::move(item));
    }
  } else if (value.is_number_float() && !std::isfinite(value.get<double>())) {
    const auto number = value.get<double>();
    return {{"__float__", std::isnan(number) ? "NaN" : number > 0 ? "Infinity" : "-Infinity"}};
  }
  return value;
}

}  // namespace

std::string ConfigWriter::text() const { return with_tagged_floats(object_).dump(2) + "\n"; }

}  // namespace transformers
