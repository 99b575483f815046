#pragma once

#include <string>
#include <string_view>

namespace transformers {

/// A file that gets its name only when it is complete and on the disk, and that is removed otherwise. Its mode is that
/// of the umask. It is locked while it is open.
class PendingFile {
 public:
  /// `prefix` begins the temporary name; both names are in `folder`.
  PendingFile(const std::string& folder, const std::string& name, const std::string& prefix);
  ~PendingFile();
  PendingFile(const PendingFile&) = delete;
  PendingFile& operator=(const PendingFile&) = delete;

  void write(std::string_view bytes);
  /// Syncs the bytes to the disk; nothing may be written afterwards.
  void finish();
  /// Closes the descriptor and with it the lock, where the folder's lock protects the file.
  void close();
  /// Renames the file to its name and replaces an existing one.
  void publish();

  const std::string& name() const { return name_; }
  const std::string& temporary_name() const { return temporary_; }
  /// From now on another owner renames the file.
  void release() { temporary_.clear(); }

 private:
  [[noreturn]] void fail(const char* what) const;
  std::string path() const { return folder_ + "/" + name_; }
  std::string temporary_path() const { return folder_ + "/" + temporary_; }

  std::string folder_, name_, temporary_;
  int descriptor_;
};

/// Removes temporary files with that prefix and name that a killed process has left behind.
void remove_abandoned(const std::string& folder, const std::string& prefix, const std::string& name);

}  // namespace transformers
