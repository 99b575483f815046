#include <c10/util/Exception.h>
#include <transformers/utils/io/checkpoint.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <map>

#include "utils/text/printable.h"

namespace transformers {
namespace {

const std::map<std::string, double> kUnits{
    {"", 1},
    {"B", 1},
    {"KB", 1e3},
    {"MB", 1e6},
    {"GB", 1e9},
    {"TB", 1e12},
    {"KIB", 1024},
    {"MIB", 1024 * 1024},
    {"GIB", 1024 * 1024 * 1024},
    {"TIB", 1024.0 * 1024 * 1024 * 1024},
};

}  // namespace

int64_t parse_size(std::string_view text) {
  const auto digits_end = std::min(text.find_first_not_of("0123456789."), text.size());
  double number = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + digits_end, number);
  std::string unit;
  for (const unsigned char c : text.substr(digits_end)) {
    if (c != ' ') {
      unit += static_cast<char>(std::toupper(c));
    }
  }
  const auto factor = kUnits.find(unit);
  const bool is_number = parsed.ec == std::errc() && parsed.ptr == text.data() + digits_end;
  TORCH_CHECK(is_number && factor != kUnits.end(), "expected a size such as 5GB, 500MB or 2GiB, found \"",
              printable(text), "\"");
  const double bytes = number * factor->second;
  TORCH_CHECK(bytes < 9e18, "the size \"", printable(text), "\" is too large");
  return static_cast<int64_t>(bytes);
}

}  // namespace transformers
