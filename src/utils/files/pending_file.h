#pragma once

#include <string>
#include <string_view>

namespace transformers {

/// A file that gets its name only when it is complete and on the disk; removed when it never does. The new name has the
/// mode that the umask gives. It is locked while it is open.
class PendingFile {
 public:
  /// `prefix` begins the temporary name; both names lie in `folder`.
  PendingFile(const std::string& folder, const std::string& name, const std::string& prefix);
  ~PendingFile();
  PendingFile(const PendingFile&) = delete;
  PendingFile& operator=(const PendingFile&) = delete;

  void write(std::string_view bytes);
  /// Brings the bytes to the disk; nothing may be written after.
  void finish();
  /// Gives up the descriptor and the lock, where the folder's lock protects the file.
  void close();
  /// Takes the name, in place of what had it.
  void publish();

  const std::string& name() const { return name_; }
  const std::string& temporary_name() const { return temporary_; }
  /// From now on somebody else gives the file its name.
  void release() { temporary_.clear(); }

 private:
  [[noreturn]] void fail(const char* what) const;
  std::string path() const { return folder_ + "/" + name_; }
  std::string temporary_path() const { return folder_ + "/" + temporary_; }

  std::string folder_, name_, temporary_;
  int descriptor_;
};

/// Removes temporary files of that prefix and name that a killed process left behind.
void remove_abandoned(const std::string& folder, const std::string& prefix, const std::string& name);

}  // namespace transformers
