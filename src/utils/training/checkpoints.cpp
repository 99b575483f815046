// Checkpoint folders on the disk: written under a temporary name and renamed when complete, found by step and run, and
// removed down to save_total_limit. A folder without its training state counts as incomplete.
#include "utils/training/checkpoints.h"

#include <c10/util/Exception.h>
#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iomanip>
#include <tuple>

#include "utils/files/internal/file_status.h"
#include "utils/files/internal/save_journal.h"
#include "utils/training/training_state.h"

namespace transformers {
namespace fs = std::filesystem;
namespace {

constexpr const char* kPrefix = "checkpoint-";
constexpr const char* kUnfinished = ".saving-checkpoint-";
constexpr const char* kRunFile = ".training_run";
constexpr int kLongestRunName = 64;

void check(const std::error_code& error, const fs::path& path, const char* what) {
  TORCH_CHECK(!error, path.string(), ": ", what, ": ", error.message());
}

void remove_unfinished(const fs::path& output_dir) {
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(output_dir, ignored)) {
    if (entry.path().filename().string().starts_with(kUnfinished)) {
      fs::remove_all(entry.path(), ignored);
    }
  }
}

/// The state is removed first: without it the folder counts as incomplete.
void remove_checkpoint(const fs::path& folder) {
  std::error_code error;
  fs::remove(folder / kTrainingStateFile, error);
  check(error, folder, "cannot be removed");
  fs::remove_all(folder, error);
  check(error, folder, "cannot be removed");
}

void put_in_place(const fs::path& made, const fs::path& folder) {
  if (!path_exists(folder.string())) {
    TORCH_CHECK(std::rename(made.c_str(), folder.c_str()) == 0, folder.string(),
                ": cannot be put in place: ", std::strerror(errno));
    return;
  }
  if (::renameat2(AT_FDCWD, made.c_str(), AT_FDCWD, folder.c_str(), RENAME_EXCHANGE) == 0) {
    remove_checkpoint(made);
    return;
  }
  // Some file systems cannot exchange two names.
  remove_checkpoint(folder);
  put_in_place(made, folder);
}

}  // namespace

std::string checkpoint_folder(const std::string& output_dir, int64_t step) {
  return (fs::path(output_dir) / (kPrefix + std::to_string(step))).string();
}

std::string new_run_name() {
  // All have the same length, so that they sort as numbers do.
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const auto digits = std::to_string(std::chrono::duration_cast<std::chrono::nanoseconds>(now).count());
  return std::string(20 - std::min<size_t>(20, digits.size()), '0') + digits;
}

void note_run(const std::string& output_dir, const std::string& run) {
  const auto path = fs::path(output_dir) / kRunFile;
  std::ofstream file(path);
  file << run << std::flush;
  TORCH_CHECK(file, path.string(), ": cannot be written");
}

std::string newest_checkpoint(const std::string& output_dir) {
  std::string noted;
  std::ifstream(fs::path(output_dir) / kRunFile) >> std::setw(kLongestRunName) >> noted;
  std::pair<std::string, int64_t> newest{"", -1};
  for (const auto step : checkpoint_steps(output_dir)) {
    const auto run = run_of_checkpoint(checkpoint_folder(output_dir, step));
    if (noted.empty() || run == noted) {
      newest = std::max(newest, {run, step});
    }
  }
  return newest.second < 0 ? "" : checkpoint_folder(output_dir, newest.second);
}

std::vector<int64_t> checkpoint_steps(const std::string& output_dir) {
  std::vector<int64_t> steps;
  if (is_folder(output_dir)) {
    for (const auto& name : names_in_folder(output_dir)) {
      const auto digits = name.starts_with(kPrefix) ? name.substr(std::string_view(kPrefix).size()) : "";
      const bool is_number =
          !digits.empty() && digits.size() < 18 && digits.find_first_not_of("0123456789") == std::string::npos;
      if (is_number && path_exists((fs::path(output_dir) / name / kTrainingStateFile).string())) {
        steps.push_back(std::stoll(digits));
      }
    }
  }
  std::sort(steps.begin(), steps.end());
  return steps;
}

void write_checkpoint(const std::string& folder, const std::function<void(const std::string& folder)>& write) {
  const fs::path place(folder), output_dir = place.parent_path();
  const auto made = output_dir / (kUnfinished + place.filename().string().substr(std::string_view(kPrefix).size()));
  remove_unfinished(output_dir);
  std::error_code error;
  fs::create_directories(made, error);
  check(error, made, "cannot be created");
  try {
    write(made.string());
    put_in_place(made, place);
  } catch (...) {
    fs::remove_all(made, error);
    throw;
  }
  sync_folder(output_dir.string());
}

void rotate_checkpoints(const std::string& output_dir, int64_t save_total_limit, const std::string& newest,
                        const std::string& best) {
  if (save_total_limit <= 0) {
    return;
  }
  // Sorted by modification time, because an earlier run may have left checkpoints of higher steps.
  std::vector<std::tuple<fs::file_time_type, int64_t, std::string>> others;
  int64_t kept = 0;
  for (const auto step : checkpoint_steps(output_dir)) {
    const auto folder = checkpoint_folder(output_dir, step);
    if (folder == newest || folder == best) {
      ++kept;
    } else {
      others.emplace_back(fs::last_write_time(fs::path(folder) / kTrainingStateFile), step, folder);
    }
  }
  std::sort(others.begin(), others.end());
  const auto surplus = kept + static_cast<int64_t>(others.size()) - std::max(save_total_limit, kept);
  for (int64_t i = 0; i < surplus; ++i) {
    remove_checkpoint(std::get<2>(others[static_cast<size_t>(i)]));
  }
}

}  // namespace transformers
