// The log of `finetune`: one JSON object per step, TensorBoard curves and the progress line. A resumed run first cuts
// the file back to the step it continues from.
#include "cli/training_log.h"

#include <c10/util/Exception.h>
#include <unistd.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>

#include "cli/common.h"
#include "utils/files/internal/regular_file.h"
#include "utils/json/strict_json.h"

namespace transformers::cli {
namespace {

using Clock = std::chrono::steady_clock;
using Json = nlohmann::ordered_json;

double seconds_between(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

/// The step that a line of a log is about.
int64_t step_of(const std::string& line, const std::string& path) {
  const auto entry = parse_strict_json(line, path);
  TORCH_CHECK(entry.is_object() && entry.contains("step") && entry["step"].is_number_integer(), path,
              ": expected a log of an earlier run, found a line without a step");
  return entry["step"].get<int64_t>();
}

/// The lines of steps up to `steps`. A last line that was cut by a full disk or the end of the process does not count.
std::string lines_up_to(const std::string& path, int64_t steps) {
  constexpr size_t kMostBytes = size_t{1} << 32;
  if (!std::filesystem::is_regular_file(path)) {
    return {};
  }
  std::string kept;
  const auto text = read_regular_file(path, kMostBytes);
  for (size_t begin = 0; begin < text.size();) {
    const auto end = text.find('\n', begin);
    const auto line = text.substr(begin, std::min(end, text.size()) - begin);
    if (end == std::string::npos && !nlohmann::json::accept(line)) {
      break;
    }
    if (step_of(line, path) <= steps) {
      kept += line + "\n";
    }
    begin += line.size() + 1;
  }
  return kept;
}

/// Checked first, because opening a pipe would wait for a reader.
void check_kind(const std::string& path) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  const bool is_stream = std::filesystem::is_character_file(status);
  TORCH_CHECK(!std::filesystem::exists(status) || std::filesystem::is_regular_file(status) || is_stream, path,
              ": the log must be a regular file");
}

}  // namespace

TrainingLogFile::TrainingLogFile(std::string path, std::string tensorboard, int64_t max_steps)
    : path_(std::move(path)), tensorboard_(std::move(tensorboard)), max_steps_(max_steps), start_(Clock::now()) {}

void TrainingLogFile::begin_after(int64_t steps) {
  first_step_ = steps;
  start_ = Clock::now();
  if (!tensorboard_.empty()) {
    board_.emplace(tensorboard_, steps > 0 ? std::make_optional(steps + 1) : std::nullopt);
  }
  if (path_.empty()) {
    return;
  }
  check_kind(path_);
  open(steps > 0 ? lines_up_to(path_, steps) : "");
}

void TrainingLogFile::open(const std::string& kept) {
  file_.open(path_, std::ios::trunc);
  TORCH_CHECK(file_ << kept << std::flush, path_, ": the log cannot be written");
}

void TrainingLogFile::write(const std::string& line) {
  if (file_.is_open() && !(file_ << line << std::endl)) {
    file_.close();
    inform("warning: " + path_ + ": the log cannot be written; the log ends here and the training continues");
  }
}

void TrainingLogFile::draw(const std::string& tag, double value, int64_t step) {
  if (!board_) {
    return;
  }
  try {
    board_->add_scalar(tag, value, step);
  } catch (const c10::Error& error) {
    board_.reset();
    inform("warning: " + std::string(error.what_without_backtrace()) +
           "; the log ends here and the training continues");
  }
}

void TrainingLogFile::add(const TrainingLog& log) {
  write(Json{{"step", log.step},
             {"epoch", log.epoch},
             {"loss", log.loss},
             {"learning_rate", log.learning_rate},
             {"grad_norm", log.grad_norm},
             {"tokens_per_second", log.tokens_per_second}}
            .dump());
  draw("train/loss", log.loss, log.step);
  draw("train/learning_rate", log.learning_rate, log.step);
  draw("train/grad_norm", log.grad_norm, log.step);
  draw("train/epoch", log.epoch, log.step);
  draw("train/tokens_per_second", log.tokens_per_second, log.step);
  show(log);
}

void TrainingLogFile::add_evaluation(int64_t step, const Metrics& metrics) {
  Json entry{{"step", step}};
  std::ostringstream line;
  line << "evaluation after step " << step << ": ";
  for (const auto& [metric, value] : metrics) {
    const auto name = metric.starts_with("eval_") ? metric.substr(5) : metric;
    entry[name == "perplexity" ? name : metric] = value;  // the name that logs have used so far
    line << (metric == metrics.begin()->first ? "" : ", ") << name << " " << value;
    draw("eval/" + name, value, step);
  }
  write(entry.dump());
  inform(line.str());
}

/// On a terminal the line is redrawn; elsewhere a line is printed every ten seconds, and one for the last step.
void TrainingLogFile::show(const TrainingLog& log) {
  const bool on_terminal = isatty(STDERR_FILENO) == 1, last = log.step == max_steps_;
  const auto now = Clock::now();
  if (is_quiet() || (!on_terminal && !last && seconds_between(shown_, now) < 10)) {
    return;
  }
  shown_ = now;
  const auto left = seconds_between(start_, now) / static_cast<double>(log.step - first_step_) *
                    static_cast<double>(max_steps_ - log.step);
  std::ostringstream line;
  line << "step " << log.step << "/" << max_steps_ << ": loss " << log.loss << ", "
       << static_cast<int64_t>(log.tokens_per_second) << " tokens/s, " << peak_rss_bytes() / 1'000'000 << " MB, "
       << static_cast<int64_t>(left) << " s left";
  on_terminal && !last ? redraw(line.str()) : inform(line.str());
}

}  // namespace transformers::cli
