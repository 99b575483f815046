#pragma once

#include <transformers/utils/nn/state_dict.h>

#include <map>
#include <string>

namespace transformers {

/// The file that marks a checkpoint folder as complete; it is written last.
inline constexpr const char* kTrainingStateFile = "training_state.safetensors";

/// The progress of a run, without the weights.
struct TrainingState {
  std::string run{};                              // the run's name; empty in files from before runs had names
  std::map<std::string, std::string> settings{};  // settings that a resumed run must share
  std::map<std::string, StateDict> tensors{};     // by part: "progress", "optimizer", "scheduler", ...
};

std::string training_state_path(const std::string& folder);

/// Writes the state, and the current state of the random number generators.
void save_training_state(const std::string& folder, const TrainingState& state);

/// The name of the run to which a checkpoint belongs.
std::string run_of_checkpoint(const std::string& folder);

TrainingState load_training_state(const std::string& folder);
/// Throws when a setting differs from `settings`, naming it with both values.
void check_settings(const TrainingState& state, const std::map<std::string, std::string>& settings);

/// Restores the default generators as they were when the state was written. The state must have that of the CPU; others
/// are restored if it has them.
void restore_random_numbers(const TrainingState& state);

}  // namespace transformers
