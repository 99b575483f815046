#include "cli/folder_lock.h"

#include <c10/util/Exception.h>
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

namespace transformers::cli {

FolderLock::FolderLock(const std::string& folder) {
  // A training writes this file anyway. The lock ends with the process, however the process ends.
  const auto path = (std::filesystem::path(folder) / ".training_run").string();
  descriptor_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
  TORCH_CHECK(descriptor_ >= 0, path, ": cannot be opened: ", std::strerror(errno));
  if (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
    ::close(descriptor_);
    TORCH_CHECK(false, folder, ": another training writes into this folder at the moment");
  }
  // On a file system without locks, training continues without one.
}

FolderLock::~FolderLock() { ::close(descriptor_); }

}  // namespace transformers::cli
