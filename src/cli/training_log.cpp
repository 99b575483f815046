#include "cli/training_log.h"

#include <c10/util/Exception.h>
#include <unistd.h>

#include <iostream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "cli/common.h"
#include "utils/json/strict_json.h"

namespace transformers::cli {
namespace {

using Clock = std::chrono::steady_clock;
using Json = nlohmann::ordered_json;

double seconds_between(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

/// Lines of steps up to `steps`.
std::string lines_up_to(const std::string& path, int64_t steps) {
  std::string kept;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const auto entry = parse_strict_json(line, path);
    TORCH_CHECK(entry.is_object() && entry.contains("step") && entry["step"].is_number_integer(), path,
                ": expected a log of an earlier run, found a line without a step");
    if (entry["step"].get<int64_t>() <= steps) {
      kept += line + "\n";
    }
  }
  return kept;
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
  const auto kept = steps > 0 ? lines_up_to(path_, steps) : "";
  file_.open(path_, std::ios::trunc);
  TORCH_CHECK(file_, path_, ": the log cannot be written");
  file_ << kept << std::flush;
}

void TrainingLogFile::write(const std::string& line) {
  if (!path_.empty()) {
    TORCH_CHECK(file_ << line << std::endl, path_, ": the log cannot be written");
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
  if (board_) {
    board_->add_scalar("train/loss", log.loss, log.step);
    board_->add_scalar("train/learning_rate", log.learning_rate, log.step);
    board_->add_scalar("train/grad_norm", log.grad_norm, log.step);
    board_->add_scalar("train/epoch", log.epoch, log.step);
    board_->add_scalar("train/tokens_per_second", log.tokens_per_second, log.step);
  }
  show(log);
}

void TrainingLogFile::add_evaluation(int64_t step, const Metrics& metrics) {
  Json entry{{"step", step}};
  std::ostringstream line;
  line << "evaluation after step " << step << ": ";
  for (const auto& [metric, value] : metrics) {
    const auto name = metric.starts_with("eval_") ? metric.substr(5) : metric;
    entry[metric] = value;
    line << (metric == metrics.begin()->first ? "" : ", ") << name << " " << value;
    if (board_) {
      board_->add_scalar("eval/" + name, value, step);
    }
  }
  write(entry.dump());
  inform(line.str());
}

/// Redrawn on a terminal; elsewhere a line every ten seconds, and the last step's.
void TrainingLogFile::show(const TrainingLog& log) {
  const bool on_terminal = isatty(STDERR_FILENO) == 1, last = log.step == max_steps_;
  const auto now = Clock::now();
  if (is_quiet() || (!on_terminal && !last && seconds_between(shown_, now) < 10)) {
    return;
  }
  shown_ = now;
  const auto left = seconds_between(start_, now) / static_cast<double>(log.step - first_step_) *
                    static_cast<double>(max_steps_ - log.step);
  std::cerr << (on_terminal ? "\r\x1b[K" : "") << "step " << log.step << "/" << max_steps_ << ": loss " << log.loss
            << ", " << static_cast<int64_t>(log.tokens_per_second) << " tokens/s, " << peak_rss_bytes() / 1'000'000
            << " MB, " << static_cast<int64_t>(left) << " s left" << (on_terminal && !last ? "" : "\n") << std::flush;
}

}  // namespace transformers::cli
