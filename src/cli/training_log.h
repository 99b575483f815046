#pragma once

#include <transformers/utils/training/tensorboard.h>
#include <transformers/utils/training/trainer.h>

#include <chrono>
#include <fstream>
#include <string>

namespace transformers::cli {

/// Writes one JSON object per step to a file, curves for TensorBoard, and a progress line on stderr. If writing fails
/// during the run, for example because the disk is full, it warns and the training continues.
class TrainingLogFile {
 public:
  /// path: the log file; tensorboard: the folder for TensorBoard; empty: none.
  TrainingLogFile(std::string path, std::string tensorboard, int64_t max_steps);

  /// Keeps the lines of the first `steps` steps, drops the rest, and continues from there. Throws when the file cannot
  /// be written, is not a regular file, or holds anything but a log.
  void begin_after(int64_t steps);
  void add(const TrainingLog& log);
  void add_evaluation(int64_t step, const Metrics& metrics);

 private:
  void write(const std::string& line);
  void open(const std::string& kept);
  /// Does not throw; after an error, `board_` is reset.
  void draw(const std::string& tag, double value, int64_t step);
  void show(const TrainingLog& log);

  std::string path_, tensorboard_;
  int64_t max_steps_, first_step_ = 0;
  std::ofstream file_;
  std::optional<TensorBoardWriter> board_;
  std::chrono::steady_clock::time_point start_, shown_;
};

}  // namespace transformers::cli
