#pragma once

#include <transformers/export.h>

#include <functional>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace transformers {
class PendingFile;
}  // namespace transformers

namespace TRANSFORMERS_API transformers {

/// Receives the bytes of a file piece by piece.
using ByteSink = std::function<void(std::string_view bytes)>;

/// Replaces files of a folder atomically. All files are first written under temporary names and synced to the disk;
/// then commit() changes the folder at one moment. Whoever opens files of the folder through this library finds the
/// whole old set before that moment and the whole new set after it, also when the process is killed or the disk fails
/// in between. Until commit() existing files are not touched. The temporary files of a failed attempt are removed,
/// after a crash by the next transaction in the folder.
///
///     SaveTransaction save("out");
///     add_checkpoint(save, state_dict(*model));
///     save.write("config.json", text);
///     save.commit();
///
/// How it works: the last temporary file is a journal of the renames and removals to do, and renaming the journal is
/// the moment of the commit. Readers look files up through the journal while it exists, and whoever opens the folder
/// after a crash carries it out. Programs that do not know the journal see the renames one after the other, in the
/// order of the calls; for their sake, write the file that refers to the others last: an index, config.json.
///
/// Every function throws c10::Error with the file and the system's message. When commit() throws, the folder holds the
/// old set or the new one. A transaction may be used by one thread at a time.
class SaveTransaction {
 public:
  /// Creates the folder if it is missing and its parent exists. Throws while another process saves into it.
  explicit SaveTransaction(const std::string& folder);
  ~SaveTransaction();
  SaveTransaction(const SaveTransaction&) = delete;
  SaveTransaction& operator=(const SaveTransaction&) = delete;

  const std::string& folder() const { return folder_; }

  /// `name` is a plain file name that does not begin with ".saving-"; a file or link of that name will be replaced. The
  /// last call for a name takes effect.
  void write(const std::string& name, std::string_view bytes);
  void write(const std::string& name, const std::function<void(const ByteSink&)>& produce);
  /// Removes a file; a missing file is not an error.
  void remove(const std::string& name);

  void commit();

 private:
  void check_name(const std::string& name) const;
  void forget(const std::string& name);
  void lock();
  void settle_earlier_saves() const;
  void release_files();
  void commit_one();
  void commit_many();

  std::string folder_;
  bool created_ = false;
  bool committed_ = false;
  int lock_ = -1;
  std::vector<std::unique_ptr<PendingFile>> pending_;
  std::set<std::string> removals_;
};

}  // namespace transformers
