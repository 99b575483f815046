#include "utils/io/pending_file.h"

#include <c10/util/Exception.h>
#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "utils/json/printable.h"

namespace transformers {
namespace {

std::string unique_prefix(const std::string& prefix) {
  static std::atomic<int> counter{0};
  return prefix + std::to_string(::getpid()) + "-" + std::to_string(counter++) + "-";
}

}  // namespace

PendingFile::PendingFile(const std::string& folder, const std::string& name, const std::string& prefix)
    : path_(folder + "/" + name), temporary_(folder + "/" + unique_prefix(prefix) + name) {
  descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (descriptor_ < 0) {
    fail("cannot be created");
  }
}

PendingFile::~PendingFile() {
  if (descriptor_ >= 0) {
    ::close(descriptor_);
  }
  if (!temporary_.empty()) {
    ::unlink(temporary_.c_str());
  }
}

void PendingFile::fail(const char* what) const {
  TORCH_CHECK(false, printable(path_), ": ", what, ": ", std::strerror(errno));
}

void PendingFile::write(std::string_view bytes) {
  while (!bytes.empty()) {
    const auto count = ::write(descriptor_, bytes.data(), bytes.size());
    if (count >= 0) {
      bytes.remove_prefix(static_cast<size_t>(count));
    } else if (errno != EINTR) {
      fail("cannot be written");
    }
  }
}

void PendingFile::finish() {
  if (::fsync(descriptor_) != 0) {
    fail("cannot be brought to the disk");
  }
  if (::close(std::exchange(descriptor_, -1)) != 0) {
    fail("cannot be closed");
  }
}

void PendingFile::publish() {
  if (std::rename(temporary_.c_str(), path_.c_str()) != 0) {
    fail("cannot be put in place");
  }
  temporary_.clear();
}

void sync_folder(const std::string& folder) {
  const int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  TORCH_CHECK(descriptor >= 0, printable(folder), ": cannot be opened: ", std::strerror(errno));
  const int status = ::fsync(descriptor);
  const int error = errno;
  ::close(descriptor);
  // Some file systems know no fsync of a folder; there is nothing else to do on them.
  TORCH_CHECK(status == 0 || error == EINVAL || error == ENOTSUP, printable(folder),
              ": cannot be brought to the disk: ", std::strerror(error));
}

}  // namespace transformers
