#pragma once

#include <transformers/utils/training/tensorboard.h>
#include <transformers/utils/training/trainer.h>

#include <chrono>
#include <fstream>
#include <string>

namespace transformers::cli {

/// A JSON object per step in a file, curves for TensorBoard, and a progress line on stderr. What cannot be written once
/// the run is under way, to a full disk, is left out with a warning: the training goes on.
class TrainingLogFile {
 public:
  /// A file, and a folder for TensorBoard; empty: none.
  TrainingLogFile(std::string path, std::string tensorboard, int64_t max_steps);

  /// Keeps what the file says of the first `steps` steps, drops the rest, and goes on from there. Throws when the file
  /// cannot be written, is no regular file, or holds something else than a log.
  void begin_after(int64_t steps);
  void add(const TrainingLog& log);
  void add_evaluation(int64_t step, const Metrics& metrics);

 private:
  void write(const std::string& line);
  void open(const std::string& kept);
  /// Does not throw; after an error, `board_` is gone.
  void draw(const std::string& tag, double value, int64_t step);
  void show(const TrainingLog& log);

  std::string path_, tensorboard_;
  int64_t max_steps_, first_step_ = 0;
  std::ofstream file_;
  std::optional<TensorBoardWriter> board_;
  std::chrono::steady_clock::time_point start_, shown_;
};

}  // namespace transformers::cli
