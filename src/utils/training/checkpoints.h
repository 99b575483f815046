#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace transformers {

/// "<output_dir>/checkpoint-<step>".
std::string checkpoint_folder(const std::string& output_dir, int64_t step);

/// A name for a run that begins now; later runs have greater ones.
std::string new_run_name();
/// Notes, in a file that says whose checkpoints count, that a run has begun in a folder.
void note_run(const std::string& output_dir, const std::string& run);

/// The newest complete checkpoint of the run that was noted last; where none was, of the run that began last. Empty
/// when there is none.
std::string newest_checkpoint(const std::string& output_dir);

/// Steps of the complete checkpoints in a folder, of all runs, ascending.
std::vector<int64_t> checkpoint_steps(const std::string& output_dir);

/// Lets `write` fill a folder that takes the checkpoint's name when it is whole and on the disk, at once in place of an
/// older one of that name. When `write` throws, nothing of it is left and nothing else has changed.
void write_checkpoint(const std::string& folder, const std::function<void(const std::string& folder)>& write);

/// Removes complete checkpoints, those written first, until `save_total_limit` are left; never `newest` or `best`
/// (folders; empty: none). A limit of 0 or less removes nothing. Mirrors HF `rotate_checkpoints`.
void rotate_checkpoints(const std::string& output_dir, int64_t save_total_limit, const std::string& newest,
                        const std::string& best);

}  // namespace transformers
