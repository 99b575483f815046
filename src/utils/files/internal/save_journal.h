#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace transformers {

/// Prefix of every file that a save needs for itself.
inline constexpr const char* kSavingPrefix = ".saving-";
inline constexpr const char* kSaveJournal = ".saving-journal";

/// The renames and removals that a save still has to do in a folder once all its files are complete, stored in the file
/// kSaveJournal of that folder. While the journal exists, readers use the new files under whichever name they have, so
/// the folder changes at the moment at which the journal gets its name. Whoever opens the folder after an interrupted
/// save carries the journal out.
struct SaveJournal {
  /// Temporary name and name, in the order of the renames. A temporary name that does not exist has been renamed
  /// already.
  std::vector<std::pair<std::string, std::string>> replacements;
  std::vector<std::string> removals;

  std::string to_json() const;
  bool operator==(const SaveJournal&) const = default;
};

/// nullopt when no save is under way. Throws on a journal that names anything but plain files of the folder.
std::optional<SaveJournal> read_save_journal(const std::string& folder);

/// Does the renames and removals and removes the journal; steps that have been done already are skipped. The caller
/// must hold the folder's lock.
void carry_out(const SaveJournal& journal, const std::string& folder);

/// Finishes an interrupted save. Does nothing while a save is under way or if the folder is not writable; readers find
/// the new files in either case.
void finish_interrupted_save(const std::string& folder);

/// The present path of the file `path`: `path` itself, or a temporary name while a save is being carried out.
std::string current_path(const std::string& path);

/// Whether a file, folder or link of that name exists, as if a save that is under way were done.
bool file_exists(const std::string& path);

/// Syncs renames and removals in a folder to the disk.
void sync_folder(const std::string& folder);

}  // namespace transformers
