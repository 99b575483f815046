#pragma once

#include <string>
#include <string_view>

namespace transformers {

/// A file that gets its name only when it is complete and on the disk; removed when it never does. The new name has the
/// mode that the umask gives.
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
  /// Takes the name, in place of what had it.
  void publish();

 private:
  [[noreturn]] void fail(const char* what) const;

  std::string path_, temporary_;
  int descriptor_;
};

/// Brings renames and removals in a folder to the disk.
void sync_folder(const std::string& folder);

}  // namespace transformers
