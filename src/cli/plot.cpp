#include <transformers/utils/io/save_transaction.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <ranges>
#include <sstream>
#include <vector>

#include "cli/common.h"
#include "utils/json/strict_json.h"

namespace transformers::cli {
namespace {

struct PlotOptions {
  std::vector<std::string> logs;
  std::string output;
  std::vector<std::string> columns{"loss"};
};

/// A column of a log over its steps.
struct Curve {
  std::string log, column;
  std::vector<double> steps, values;
};

/// The curves that are drawn over each other: one column of all logs.
using Panel = std::vector<Curve>;

struct Range {
  double low, high;

  static Range of(const Panel& panel, std::vector<double> Curve::*values) {
    std::vector<double> all;
    for (const auto& curve : panel) {
      all.insert(all.end(), (curve.*values).begin(), (curve.*values).end());
    }
    const auto [low, high] = std::ranges::minmax(all);
    // A flat line lies in the middle.
    return low == high ? Range{low - 0.5, high + 0.5} : Range{low, high};
  }
  /// 0 at the low end, 1 at the high one.
  double place(double value) const { return (value - low) / (high - low); }
};

std::vector<Curve> read_curves(const std::string& log, const std::vector<std::string>& columns) {
  std::vector<Curve> curves;
  for (const auto& column : columns) {
    curves.push_back({std::filesystem::path(log).stem().string(), column, {}, {}});
  }
  std::ifstream file(log);
  TORCH_CHECK(file, log, ": cannot be opened");
  int64_t number = 0;
  for (std::string line; std::getline(file, line);) {
    const auto source = log + " line " + std::to_string(++number);
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
  for (const auto& curve : curves) {
    TORCH_CHECK(!curve.values.empty(), log, ": no line has a number \"", curve.column, "\"");
  }
  return curves;
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

void write_ticks(std::ostream& svg, const Range& x, const Range& y, double top) {
  constexpr int kTicks = 4;
  const auto bottom = top + kPanel - kTop - kBottom;
  for (int i = 0; i <= kTicks; ++i) {
    const auto share = static_cast<double>(i) / kTicks;
    const auto tick_y = bottom - share * (bottom - top), tick_x = kLeft + share * (kWidth - kLeft - kRight);
    svg << "<line x1='" << kLeft << "' y1='" << tick_y << "' x2='" << kWidth - kRight << "' y2='" << tick_y
        << "' stroke='#ddd'/><text x='" << kLeft - 6 << "' y='" << tick_y + 4 << "' text-anchor='end'>"
        << short_number(y.low + share * (y.high - y.low)) << "</text><text x='" << tick_x << "' y='" << bottom + 18
        << "' text-anchor='middle'>" << short_number(std::round(x.low + share * (x.high - x.low))) << "</text>\n";
  }
}

void write_line(std::ostream& svg, const Curve& curve, const Range& x, const Range& y, double top, double bottom) {
  for (size_t i = 0; i < curve.values.size(); ++i) {
    svg << kLeft + x.place(curve.steps[i]) * (kWidth - kLeft - kRight) << ','
        << bottom - y.place(curve.values[i]) * (bottom - top) << ' ';
  }
}

void write_panel(std::ostream& svg, const Panel& panel, double top) {
  const auto x = Range::of(panel, &Curve::steps), y = Range::of(panel, &Curve::values);
  const auto inner_top = top + kTop, bottom = top + kPanel - kBottom;
  svg << "<text x='" << kLeft << "' y='" << top + 20 << "' font-weight='bold'>" << escaped(panel[0].column)
      << "</text>\n";
  write_ticks(svg, x, y, inner_top);
  for (size_t i = 0; i < panel.size(); ++i) {
    const auto* colour = kColours[i % kColours.size()];
    if (panel.size() > 1) {
      svg << "<text x='" << kLeft + kLegend * static_cast<double>(i + 1) << "' y='" << top + 20 << "' fill='" << colour
          << "'>" << escaped(panel[i].log) << "</text>\n";
    }
    svg << "<polyline fill='none' stroke='" << colour << "' stroke-width='1.5' points='";
    write_line(svg, panel[i], x, y, inner_top, bottom);
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

/// The curve in characters: each column the mean of its steps.
void print_curve(const Curve& curve, bool named) {
  constexpr size_t kColumns = 64, kRows = 12;
  const auto y = Range::of({curve}, &Curve::values);
  const auto columns = std::min(kColumns, curve.values.size());
  std::vector<std::string> rows(kRows, std::string(columns, ' '));
  for (size_t column = 0; column < columns; ++column) {
    const auto first = column * curve.values.size() / columns, end = (column + 1) * curve.values.size() / columns;
    double sum = 0;
    for (size_t i = first; i < end; ++i) {
      sum += curve.values[i];
    }
    const auto place = y.place(sum / static_cast<double>(end - first));
    rows[kRows - 1 - static_cast<size_t>(std::lround(place * (kRows - 1)))][column] = '*';
  }
  std::cout << (named ? curve.log + " " : "") << curve.column << ": " << short_number(y.low) << " to "
            << short_number(y.high) << ", steps " << curve.steps.front() << " to " << curve.steps.back() << '\n';
  for (const auto& row : rows) {
    std::cout << "| " << row << '\n';
  }
  std::cout << "+-" << std::string(columns, '-') << '\n';
}

void plot(const PlotOptions& options) {
  const auto panels = read_panels(options);
  if (options.output.empty()) {
    for (const auto& curve : panels | std::views::join) {
      print_curve(curve, options.logs.size() > 1);
    }
    return;
  }
  const std::filesystem::path path(options.output);
  const auto folder = path.parent_path();
  SaveTransaction save(folder.empty() ? "." : folder.string());
  save.write(path.filename().string(), svg_of(panels));
  save.commit();
}

}  // namespace

void add_plot(CLI::App& app) {
  auto* command = app.add_subcommand("plot", "Draw the curves of a training log, as SVG or in the terminal");
  auto options = std::make_shared<PlotOptions>();
  command->add_option("log", options->logs, "what finetune --log-file wrote; several are drawn over each other")
      ->required();
  command->add_option("-o,--output", options->output, "SVG file; without it the terminal");
  command->add_option("--columns", options->columns, "what to draw, e.g. loss,grad_norm,learning_rate")
      ->delimiter(',')
      ->capture_default_str();
  command->footer("Example: transformers-cpp plot log.jsonl -o loss.svg");
  command->callback([options] { plot(*options); });
}

}  // namespace transformers::cli
