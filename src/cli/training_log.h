#pragma once

#include <transformers/utils/training/tensorboard.h>
#include <transformers/utils/training/trainer.h>

#include <chrono>
#include <fstream>
#include <string>

namespace transformers::cli {

/// A JSON object per step in a file, curves for TensorBoard, and a progress line on stderr.
class TrainingLogFile {
 public:
  /// A file, and a folder for TensorBoard; empty: none.
  TrainingLogFile(std::string path, std::string tensorboard, int64_t max_steps);

  /// Keeps what the file says of the first `steps` steps, drops the rest, and goes on from there.
  void begin_after(int64_t steps);
  void add(const TrainingLog& log);
  void add_evaluation(int64_t step, const Metrics& metrics);

 private:
  void write(const std::string& line);
  void show(const TrainingLog& log);

  std::string path_, tensorboard_;
  int64_t max_steps_, first_step_ = 0;
  std::ofstream file_;
  std::optional<TensorBoardWriter> board_;
  std::chrono::steady_clock::time_point start_, shown_;
};

}  // namespace transformers::cli
