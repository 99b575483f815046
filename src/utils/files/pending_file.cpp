#include "utils/files/pending_file.h"

#include <c10/util/Exception.h>
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <utility>

#include "utils/text/printable.h"

namespace transformers {
namespace {

std::string unique_prefix(const std::string& prefix) {
  static std::atomic<int> counter{0};
  return prefix + std::to_string(::getpid()) + "-" + std::to_string(counter++) + "-";
}

int create(const std::string& path) { return ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666); }

/// The process that writes a temporary file holds a lock on it, so a file that can be locked was left behind.
void remove_if_abandoned(const std::filesystem::path& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
  if (descriptor < 0) {
    return;
  }
  if (::flock(descriptor, LOCK_EX | LOCK_NB) == 0) {
    ::unlink(path.c_str());
  }
  ::close(descriptor);
}

/// Temporary names are prefix, process, number and name, with '-' between them.
bool is_temporary_of(std::string_view file, std::string_view prefix, const std::string& name) {
  if (!file.starts_with(prefix) || !file.ends_with("-" + name)) {
    return false;
  }
  const auto numbers = file.substr(prefix.size(), file.size() - prefix.size() - name.size());
  return numbers.find_first_not_of("0123456789-") == std::string_view::npos;
}

}  // namespace

PendingFile::PendingFile(const std::string& folder, const std::string& name, const std::string& prefix)
    : folder_(folder), name_(name), temporary_(unique_prefix(prefix) + name) {
  descriptor_ = create(temporary_path());
  if (descriptor_ < 0) {
    fail("cannot be created");
  }
  // Another process that cleans up may have locked the file between its creation and this lock, and may be about to
  // remove it.
  while (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
    ::close(descriptor_);
    temporary_ = unique_prefix(prefix) + name;
    descriptor_ = create(temporary_path());
    if (descriptor_ < 0) {
      fail("cannot be created");
    }
  }
}

PendingFile::~PendingFile() {
  if (!temporary_.empty()) {
    ::unlink(temporary_path().c_str());
  }
  if (descriptor_ >= 0) {
    ::close(descriptor_);
  }
}

void PendingFile::fail(const char* what) const {
  TORCH_CHECK(false, printable(path()), ": ", what, ": ", std::strerror(errno));
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
}

void PendingFile::close() {
  if (::close(std::exchange(descriptor_, -1)) != 0) {
    fail("cannot be closed");
  }
}

void PendingFile::publish() {
  if (std::rename(temporary_path().c_str(), path().c_str()) != 0) {
    fail("cannot be put in place");
  }
  temporary_.clear();
}

void remove_abandoned(const std::string& folder, const std::string& prefix, const std::string& name) {
  std::error_code error;
  for (std::filesystem::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    if (is_temporary_of(entry->path().filename().string(), prefix, name)) {
      remove_if_abandoned(entry->path());
    }
  }
}

}  // namespace transformers
