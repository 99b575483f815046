#pragma once

#include <transformers/utils/training/trainer.h>

#include <chrono>
#include <fstream>
#include <string>

namespace transformers::cli {

/// A JSON object per step in a file, and a progress line on stderr.
class TrainingLogFile {
 public:
  /// An empty path keeps no file.
  TrainingLogFile(std::string path, int64_t max_steps);

  /// Keeps what the file says of the first `steps` steps, drops the rest, and goes on from there.
  void begin_after(int64_t steps);
  void add(const TrainingLog& log);
  void add_evaluation(int64_t step, double loss);

 private:
  void write(const std::string& line);
  void show(const TrainingLog& log);

  std::string path_;
  int64_t max_steps_, first_step_ = 0;
  std::ofstream file_;
  std::chrono::steady_clock::time_point start_, shown_;
};

}  // namespace transformers::cli
