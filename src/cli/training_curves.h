#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace transformers::cli {

/// One column of a training log, by step. All numbers are finite.
struct Curve {
  std::string log, column;
  std::vector<double> steps, values;
};

/// The given columns of a log's text, which has one JSON object per line with a number "step" and other numbers. `path`
/// names the log in errors. Throws, naming the line, on anything else, and when a column has no number at all.
std::vector<Curve> curves_of(std::string_view text, const std::string& path, const std::vector<std::string>& columns);

/// The same for a regular file of at most 256 MiB.
std::vector<Curve> read_curves(const std::string& path, const std::vector<std::string>& columns);

/// The range of an axis.
struct Range {
  double low = 0, high = 1;

  /// From the smallest to the largest of the numbers, of which there must be at least one; a range around the number
  /// when all are equal.
  static Range of(const std::vector<double>& numbers);

  /// The position of a value: 0 at the low end, 1 at the high end; never outside, whatever the rounding.
  double place(double value) const;
};

/// A number on an axis and its text.
struct Tick {
  double value;
  std::string text;
};

/// About four round numbers within the range: 1, 2 or 5 times a power of ten apart; integers if `whole`.
std::vector<Tick> ticks(const Range& range, bool whole);

}  // namespace transformers::cli
