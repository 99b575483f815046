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
  // The file that a training notes itself in anyway; a lock goes with its process, whatever ends that.
  const auto path = (std::filesystem::path(folder) / ".training_run").string();
  descriptor_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
  TORCH_CHECK(descriptor_ >= 0, path, ": cannot be opened: ", std::strerror(errno));
  if (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
    ::close(descriptor_);
    TORCH_CHECK(false, folder, ": another training writes into this folder at the moment");
  }
  // A file system without locks is no reason not to train.
}

FolderLock::~FolderLock() { ::close(descriptor_); }

}  // namespace transformers::cli
