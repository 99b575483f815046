#pragma once

#include <transformers/utils/nn/state_dict.h>

#include <map>
#include <string>

namespace transformers {

/// The file that makes a checkpoint folder one to resume from; written last.
inline constexpr const char* kTrainingStateFile = "training_state.safetensors";

/// Where a run stands, weights apart.
struct TrainingState {
  std::string run{};                              // whose it is; empty in files of before there were names
  std::map<std::string, std::string> settings{};  // that a resumed run must share
  std::map<std::string, StateDict> tensors{};     // by part: "progress", "optimizer", "scheduler", ...
};

std::string training_state_path(const std::string& folder);

/// Writes the state and the random number generators' as they are now.
void save_training_state(const std::string& folder, const TrainingState& state);

/// The name of the run that a checkpoint is of.
std::string run_of_checkpoint(const std::string& folder);

TrainingState load_training_state(const std::string& folder);
/// Throws when a setting is another than `settings` say, naming it with both values.
void check_settings(const TrainingState& state, const std::map<std::string, std::string>& settings);

/// Puts the default generators where they were when the state was written. The CPU's must be there, others where the
/// state has them.
void restore_random_numbers(const TrainingState& state);

}  // namespace transformers
