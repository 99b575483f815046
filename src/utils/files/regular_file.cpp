#include "utils/files/internal/regular_file.h"

#include <c10/util/Exception.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "utils/files/internal/save_journal.h"
#include "utils/text/printable.h"

namespace transformers {
namespace {

std::string_view kind_of(mode_t mode) {
  switch (mode & S_IFMT) {
    case S_IFDIR:
      return "a folder";
    case S_IFIFO:
      return "a pipe";
    case S_IFSOCK:
      return "a socket";
    default:
      return "a device";
  }
}

struct stat status_of(int descriptor, const std::string& path) {
  struct stat status {};
  TORCH_CHECK(::fstat(descriptor, &status) == 0, printable(path), ": cannot be read: ", std::strerror(errno));
  return status;
}

/// The descriptor, negative if there is none. A temporary file of a save may get its final name between the lookup and
/// the opening.
int open_current(const std::string& path) {
  constexpr int kAttempts = 50;
  int descriptor = -1;
  for (int attempt = 0; attempt < kAttempts && descriptor < 0; ++attempt) {
    const auto current = current_path(path);
    // Without O_NONBLOCK opening a pipe would wait for a writer.
    descriptor = ::open(current.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (errno != ENOENT || current == path) {
      break;
    }
  }
  return descriptor;
}

}  // namespace

RegularFile::RegularFile(const std::string& path) : path_(path) {
  TORCH_CHECK(path.find('\0') == std::string::npos, printable(path), ": a file name holds no NUL");
  descriptor_ = open_current(path);
  TORCH_CHECK(descriptor_ >= 0, printable(path), ": cannot be opened: ", std::strerror(errno));
  const auto mode = status_of(descriptor_, path).st_mode;
  if (!S_ISREG(mode)) {
    ::close(descriptor_);
    TORCH_CHECK(false, printable(path), ": expected a regular file, found ", kind_of(mode));
  }
}

RegularFile::~RegularFile() { ::close(descriptor_); }

size_t RegularFile::size() const { return static_cast<size_t>(status_of(descriptor_, path_).st_size); }

std::string RegularFile::read(size_t offset, size_t size) const {
  std::string bytes(size, '\0');
  size_t done = 0;
  while (done < size) {
    const auto count = ::pread(descriptor_, bytes.data() + done, size - done, static_cast<off_t>(offset + done));
    if (count < 0 && errno == EINTR) {
      continue;
    }
    TORCH_CHECK(count >= 0, printable(path_), ": cannot be read: ", std::strerror(errno));
    TORCH_CHECK(count > 0, printable(path_), ": became shorter while it was read");
    done += static_cast<size_t>(count);
  }
  return bytes;
}

void check_folder(const std::string& path) {
  std::error_code problem;
  const auto status = std::filesystem::status(path, problem);
  TORCH_CHECK(std::filesystem::exists(status) ||
                  (problem && problem != std::errc::no_such_file_or_directory && problem != std::errc::not_a_directory),
              printable(path), ": no such folder");
  TORCH_CHECK(!problem, printable(path), ": cannot be opened: ", problem.message());
  TORCH_CHECK(std::filesystem::is_directory(status), printable(path), ": expected a folder, found a file");
}

std::string read_regular_file(const std::string& path, size_t max_bytes) {
  const RegularFile file(path);
  const size_t size = file.size();
  TORCH_CHECK(size <= max_bytes, printable(path), ": expected at most ", max_bytes, " bytes, found ", size);
  return file.read(0, size);
}

}  // namespace transformers
