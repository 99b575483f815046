// The subcommand `plot`: draws columns of training logs as an SVG file or as characters in a terminal.
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <iostream>
#include <sstream>
#include <vector>

#include "cli/common.h"
#include "cli/training_curves.h"
#include "utils/files/internal/regular_file.h"
#include "utils/files/internal/replace_file.h"
#include "utils/text/printable.h"

namespace transformers::cli {
namespace {

struct PlotOptions {
  std::vector<std::string> logs;
  std::string output;
  std::vector<std::string> columns{"loss"};
};

/// The curves that share one pair of axes: one column of every log.
using Panel = std::vector<Curve>;

Range range_of(const Panel& panel, std::vector<double> Curve::*numbers) {
  std::vector<double> all;
  for (const auto& curve : panel) {
    all.insert(all.end(), (curve.*numbers).begin(), (curve.*numbers).end());
  }
  return Range::of(all);
}

std::vector<Panel> read_panels(const PlotOptions& options) {
  std::vector<Panel> panels(options.columns.size());
  for (const auto& log : options.logs) {
    auto curves = read_curves(log, options.columns);
    for (size_t i = 0; i < curves.size(); ++i) {
      panels[i].push_back(std::move(curves[i]));
    }
  }
  return panels;
}

std::string short_number(double value) {
  std::ostringstream text;
  text.precision(4);
  text << value;
  return text.str();
}

std::string escaped(const std::string& text) {
  std::string result;
  for (const char c : text) {
    result += c == '<' ? "&lt;" : c == '>' ? "&gt;" : c == '&' ? "&amp;" : c == '"' ? "&quot;" : std::string(1, c);
  }
  return result;
}

// Panels lie one below the other.
constexpr double kWidth = 640, kPanel = 240, kLeft = 70, kRight = 20, kTop = 30, kBottom = 40, kLegend = 90;
constexpr std::array kColours{"#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b"};

constexpr double kInner = kWidth - kLeft - kRight;

/// The rectangle inside the axes of a panel, and the values along its sides.
struct PlotArea {
  Range x, y;
  double top, bottom;

  double place_of_step(double step) const { return kLeft + x.place(step) * kInner; }
  double place_of_value(double value) const { return bottom - y.place(value) * (bottom - top); }
};

void write_ticks(std::ostream& svg, const PlotArea& area) {
  for (const auto& [value, text] : ticks(area.y, /*whole=*/false)) {
    const auto at = area.place_of_value(value);
    svg << "<line x1='" << kLeft << "' y1='" << at << "' x2='" << kWidth - kRight << "' y2='" << at
        << "' stroke='#ddd'/><text x='" << kLeft - 6 << "' y='" << at + 4 << "' text-anchor='end'>" << text
        << "</text>\n";
  }
  for (const auto& [value, text] : ticks(area.x, /*whole=*/true)) {
    svg << "<text x='" << area.place_of_step(value) << "' y='" << area.bottom + 18 << "' text-anchor='middle'>" << text
        << "</text>\n";
  }
}

void write_line(std::ostream& svg, const Curve& curve, const PlotArea& area) {
  for (size_t i = 0; i < curve.values.size(); ++i) {
    svg << area.place_of_step(curve.steps[i]) << ',' << area.place_of_value(curve.values[i]) << ' ';
  }
}

void write_panel(std::ostream& svg, const Panel& panel, double top) {
  const PlotArea area{.x = range_of(panel, &Curve::steps),
                      .y = range_of(panel, &Curve::values),
                      .top = top + kTop,
                      .bottom = top + kPanel - kBottom};
  svg << "<text x='" << kLeft << "' y='" << top + 20 << "' font-weight='bold'>" << escaped(printable(panel[0].column))
      << "</text>\n";
  write_ticks(svg, area);
  for (size_t i = 0; i < panel.size(); ++i) {
    const auto* colour = kColours[i % kColours.size()];
    if (panel.size() > 1) {
      svg << "<text x='" << kLeft + kLegend * static_cast<double>(i + 1) << "' y='" << top + 20 << "' fill='" << colour
          << "'>" << escaped(panel[i].log) << "</text>\n";
    }
    svg << "<polyline fill='none' stroke='" << colour << "' stroke-width='1.5' points='";
    write_line(svg, panel[i], area);
    svg << "'/>\n";
  }
}

std::string svg_of(const std::vector<Panel>& panels) {
  std::ostringstream svg;
  const auto height = kPanel * static_cast<double>(panels.size());
  svg << "<svg xmlns='http://www.w3.org/2000/svg' width='" << kWidth << "' height='" << height
      << "' font-family='sans-serif' font-size='12'>\n<rect width='100%' height='100%' fill='white'/>\n";
  for (size_t i = 0; i < panels.size(); ++i) {
    write_panel(svg, panels[i], kPanel * static_cast<double>(i));
  }
  svg << "</svg>\n";
  return svg.str();
}

/// Draws a curve with characters; each column shows the mean of its steps.
void print_curve(const Curve& curve, bool named) {
  constexpr size_t kColumns = 64, kRows = 12;
  const auto y = Range::of(curve.values);
  const auto columns = std::min(kColumns, curve.values.size());
  std::vector<std::string> rows(kRows, std::string(columns, ' '));
  for (size_t column = 0; column < columns; ++column) {
    const auto first = column * curve.values.size() / columns, end = (column + 1) * curve.values.size() / columns;
    double mean = 0;
    for (size_t i = first; i < end; ++i) {
      mean += curve.values[i] / static_cast<double>(end - first);
    }
    const auto place = y.place(mean);
    rows[kRows - 1 - static_cast<size_t>(std::lround(place * (kRows - 1)))][column] = '*';
  }
  std::cout << (named ? curve.log + " " : "") << printable(curve.column) << ": " << short_number(y.low) << " to "
            << short_number(y.high) << ", steps " << curve.steps.front() << " to " << curve.steps.back() << '\n';
  for (const auto& row : rows) {
    std::cout << "| " << row << '\n';
  }
  std::cout << "+-" << std::string(columns, '-') << '\n';
}

/// An existing file may be replaced only if it is a drawing.
void check_drawing(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) == 0 && status.st_size > 0) {
    TORCH_CHECK(RegularFile(path).read(0, std::min<size_t>(4, RegularFile(path).size())) == "<svg", printable(path),
                ": is not an SVG file and is not overwritten");
  }
}

void plot(const PlotOptions& options) {
  const auto panels = read_panels(options);
  if (options.output.empty()) {
    for (const auto& panel : panels) {
      for (const auto& curve : panel) {
        print_curve(curve, options.logs.size() > 1);
      }
    }
    return;
  }
  check_drawing(options.output);
  replace_file(options.output, svg_of(panels));
}

}  // namespace

void add_plot(CLI::App& app) {
  auto* command = app.add_subcommand("plot", "Draw the curves of a training log, as SVG or in the terminal");
  auto options = std::make_shared<PlotOptions>();
  command->add_option("log", options->logs, "file that finetune --log-file wrote; several are drawn over each other")
      ->required();
  command->add_option("-o,--output", options->output, "SVG file; without it the terminal");
  command->add_option("--columns", options->columns, "columns to draw, e.g. loss,grad_norm,learning_rate")
      ->delimiter(',')
      ->capture_default_str();
  command->footer("Example: transformers-cpp plot log.jsonl -o loss.svg");
  command->callback([options] { plot(*options); });
}

}  // namespace transformers::cli
