#pragma once

#include <transformers/export.h>

#include <functional>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace TRANSFORMERS_API transformers {

class PendingFile;

/// Takes the bytes of a file piece by piece.
using ByteSink = std::function<void(std::string_view bytes)>;

/// Replaces files of a folder together. Everything is first written under temporary names and brought to the disk; then
/// commit() changes the folder at one moment: what opens files of the folder through this library finds all of the old
/// set before it and all of the new set after it, also when the process is killed or the disk fails in between. Until
/// commit() nothing that was there is touched; the temporaries of an attempt that failed are removed, after a crash by
/// the next transaction in the folder.
///
///     SaveTransaction save("out");
///     add_checkpoint(save, state_dict(*model));
///     save.write("config.json", text);
///     save.commit();
///
/// How: the last temporary file is a journal of what has to be renamed and removed. Its own renaming is the moment.
/// Readers look files up through the journal while there is one, and whoever opens the folder after a crash carries it
/// out. Programs that do not know the journal see the renames, in the order of the calls, one after the other; call
/// write() last for what makes the rest count for them: an index, config.json.
///
/// Every function throws c10::Error naming the file and what the system said. When commit() throws, the folder holds
/// the old set or the new one. A transaction is used by one thread at a time.
class SaveTransaction {
 public:
  /// Creates the folder when it is missing and its parent is not. Throws while another process saves into it.
  explicit SaveTransaction(const std::string& folder);
  ~SaveTransaction();
  SaveTransaction(const SaveTransaction&) = delete;
  SaveTransaction& operator=(const SaveTransaction&) = delete;

  const std::string& folder() const { return folder_; }

  /// `name` is a plain file name that does not begin with ".saving-"; a file or link of that name will be replaced. The
  /// last call for a name counts.
  void write(const std::string& name, std::string_view bytes);
  void write(const std::string& name, const std::function<void(const ByteSink&)>& produce);
  /// Removes a file; that it is missing is no error.
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
