#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace transformers {

/// "<output_dir>/checkpoint-<step>".
std::string checkpoint_folder(const std::string& output_dir, int64_t step);

/// A name for a run that begins now. Names of later runs compare greater.
std::string new_run_name();
/// Records in the folder's run file that a run has begun there; only checkpoints of this run count from then on.
void note_run(const std::string& output_dir, const std::string& run);

/// The newest complete checkpoint of the run that was recorded last or, if none was recorded, of the run that began
/// last. Empty when there is none.
std::string newest_checkpoint(const std::string& output_dir);

/// Steps of the complete checkpoints in a folder, of all runs, ascending.
std::vector<int64_t> checkpoint_steps(const std::string& output_dir);

/// Lets `write` fill a temporary folder, which is then renamed to the checkpoint's name and atomically replaces an
/// older checkpoint of that name. When `write` throws, the temporary folder is removed and nothing else has changed.
void write_checkpoint(const std::string& folder, const std::function<void(const std::string& folder)>& write);

/// Removes the oldest complete checkpoints until `save_total_limit` remain, but never the folders `newest` and `best`
/// (empty: none). A limit of 0 or less removes nothing. Mirrors HF `rotate_checkpoints`.
void rotate_checkpoints(const std::string& output_dir, int64_t save_total_limit, const std::string& newest,
                        const std::string& best);

}  // namespace transformers
