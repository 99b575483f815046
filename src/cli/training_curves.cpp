#include "cli/training_curves.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "utils/files/internal/regular_file.h"
#include "utils/json/strict_json.h"
#include "utils/text/printable.h"

namespace transformers::cli {
namespace {

constexpr size_t kMostLogBytes = size_t{256} << 20;

void add_line(std::string_view line, const std::string& source, std::vector<Curve>& curves) {
  const auto entry = parse_strict_json(line, source);
  TORCH_CHECK(entry.is_object() && entry.contains("step") && entry["step"].is_number(), source,
              ": expected an object with a number \"step\"");
  for (auto& curve : curves) {
    if (entry.contains(curve.column) && entry[curve.column].is_number()) {
      curve.steps.push_back(entry["step"].get<double>());
      curve.values.push_back(entry[curve.column].get<double>());
    }
  }
}

/// The number with enough digits to distinguish it from a number one step away.
std::string tick_text(double value, double step) {
  const auto digits = value == 0 ? 1 : std::ceil(std::log10(std::abs(value) / step)) + 1;
  std::array<char, 32> buffer{};
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value, std::chars_format::general,
                                 static_cast<int>(std::clamp(digits, 1.0, 15.0)));
  return {buffer.data(), end.ptr};
}

/// The smallest of 1, 2, 5 and 10 times a power of ten that is not below `least`.
double round_step(double least) {
  const auto power = std::pow(10, std::floor(std::log10(least)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= least) {
      return factor * power;
    }
  }
  return 10 * power;
}

}  // namespace

std::vector<Curve> curves_of(std::string_view text, const std::string& path, const std::vector<std::string>& columns) {
  std::vector<Curve> curves;
  for (const auto& column : columns) {
    curves.push_back({printable(std::filesystem::path(path).stem().string()), column, {}, {}});
  }
  const auto name = printable(path);
  for (int64_t number = 1; !text.empty(); ++number) {
    const auto end = std::min(text.find('\n'), text.size());
    add_line(text.substr(0, end), name + " line " + std::to_string(number), curves);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  for (const auto& curve : curves) {
    TORCH_CHECK(!curve.values.empty(), name, ": no line has a number \"", printable(curve.column), "\"");
  }
  return curves;
}

std::vector<Curve> read_curves(const std::string& path, const std::vector<std::string>& columns) {
  return curves_of(read_regular_file(path, kMostLogBytes), path, columns);
}

Range Range::of(const std::vector<double>& numbers) {
  const auto [low, high] = std::ranges::minmax(numbers);
  if (low < high) {
    return {low, high};
  }
  // A flat line is drawn in the middle.
  const auto around = std::max(0.5, std::abs(low) / 4);
  return {std::max(low - around, std::numeric_limits<double>::lowest()),
          std::min(high + around, std::numeric_limits<double>::max())};
}

double Range::place(double value) const {
  // Computed with halves, because the width of the range may be too large for a double.
  const auto place = (value / 2 - low / 2) / (high / 2 - low / 2);
  return std::isnan(place) ? 0.5 : std::clamp(place, 0.0, 1.0);
}

std::vector<Tick> ticks(const Range& range, bool whole) {
  constexpr double kTicks = 4;
  const auto least = range.high / kTicks - range.low / kTicks;
  // If the step is too small for doubles, only the two ends are shown.
  const std::vector<Tick> ends{{range.low, tick_text(range.low, least)}, {range.high, tick_text(range.high, least)}};
  if (!std::isnormal(least) || least < std::max(std::abs(range.low), std::abs(range.high)) * 1e-13) {
    return ends;
  }
  const auto step = whole ? std::max(1.0, round_step(least)) : round_step(least);
  std::vector<Tick> round;
  const auto first = std::ceil(range.low / step);
  for (int64_t i = 0; (first + static_cast<double>(i)) * step <= range.high; ++i) {
    const auto value = (first + static_cast<double>(i)) * step + 0.0;  // no negative zero
    round.push_back({value, tick_text(value, step)});
  }
  return round.empty() ? ends : round;
}

}  // namespace transformers::cli
