#pragma once

#include <string>

namespace transformers::cli {

/// Locks a folder for one training run: for its lifetime, no other process can lock the same folder.
class FolderLock {
 public:
  /// Throws when another process holds the folder, and when the folder cannot be written to.
  explicit FolderLock(const std::string& folder);
  ~FolderLock();
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  int descriptor_;
};

}  // namespace transformers::cli
