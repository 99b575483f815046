#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace transformers::cli {

/// A column of a training log over its steps. All numbers are finite.
struct Curve {
  std::string log, column;
  std::vector<double> steps, values;
};

/// The columns of a log's text: a JSON object with a number "step" a line, and curves of the numbers it has beside it.
/// `path` names the log; throws, naming the line, on anything else, and when a column has no number at all.
std::vector<Curve> curves_of(std::string_view text, const std::string& path, const std::vector<std::string>& columns);

/// The same for a regular file of at most 256 MiB.
std::vector<Curve> read_curves(const std::string& path, const std::vector<std::string>& columns);

/// What an axis shows.
struct Range {
  double low = 0, high = 1;

  /// From the least to the most of numbers, of which there is at least one; around them when they are all one.
  static Range of(const std::vector<double>& numbers);

  /// 0 at the low end, 1 at the high one; never outside, whatever rounding does.
  double place(double value) const;
};

/// A number at its place on an axis, as text.
struct Tick {
  double value;
  std::string text;
};

/// About four round numbers within the range: 1, 2 or 5 times a power of ten apart, and whole when asked for.
std::vector<Tick> ticks(const Range& range, bool whole);

}  // namespace transformers::cli
