#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace transformers {

/// Begins the name of every file that a save needs for itself.
inline constexpr const char* kSavingPrefix = ".saving-";
inline constexpr const char* kSaveJournal = ".saving-journal";

/// What a save still has to do in a folder once all its files are complete, in a file kSaveJournal of that folder.
/// While it is there, readers take the new files for those of the folder, under whichever name they are found; so the
/// moment at which the journal gets its name is the moment at which the folder changes. Whoever opens the folder after
/// a save that died carries it out.
struct SaveJournal {
  /// Temporary name and name, in the order of the renames. A temporary name that is gone has been renamed.
  std::vector<std::pair<std::string, std::string>> replacements;
  std::vector<std::string> removals;

  std::string to_json() const;
  bool operator==(const SaveJournal&) const = default;
};

/// None where no save is under way. Throws for a journal that names anything but plain files of the folder.
std::optional<SaveJournal> read_save_journal(const std::string& folder);

/// The renames, the removals, and the journal's own removal; what has been done already is passed over. The caller
/// holds the folder's lock.
void carry_out(const SaveJournal& journal, const std::string& folder);

/// Carries out what a save that died left to do. Does nothing where a save is under way or the folder cannot be written
/// to: readers manage without.
void finish_interrupted_save(const std::string& folder);

/// Where the file called `path` lies: at `path`, or under a temporary name while a save is being carried out.
std::string current_path(const std::string& path);

/// Whether there is a file, folder or link of that name once a save that is being carried out is done.
bool file_exists(const std::string& path);

/// Brings renames and removals in a folder to the disk.
void sync_folder(const std::string& folder);

}  // namespace transformers
