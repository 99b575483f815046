#include <c10/util/Exception.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <transformers/utils/io/save_transaction.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "utils/io/file_name.h"
#include "utils/io/pending_file.h"
#include "utils/json/printable.h"

namespace transformers {
namespace {

constexpr const char* kPrefix = ".saving-";

}  // namespace

SaveTransaction::SaveTransaction(const std::string& folder) : folder_(folder) {
  created_ = ::mkdir(folder.c_str(), 0777) == 0;
  TORCH_CHECK(created_ || errno == EEXIST, printable(folder), ": cannot be created: ", std::strerror(errno));
  lock();
}

SaveTransaction::~SaveTransaction() {
  pending_.clear();
  ::close(lock_);
  if (created_ && !committed_) {
    ::rmdir(folder_.c_str());
  }
}

void SaveTransaction::lock() {
  lock_ = ::open(folder_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  TORCH_CHECK(lock_ >= 0, printable(folder_), ": cannot be opened as a folder: ", std::strerror(errno));
  if (::flock(lock_, LOCK_EX | LOCK_NB) == 0) {
    remove_leftovers();
    return;
  }
  const bool taken = errno == EWOULDBLOCK;
  if (taken) {
    ::close(lock_);
  }
  TORCH_CHECK(!taken, printable(folder_), ": another process is saving into this folder");
}

void SaveTransaction::remove_leftovers() const {
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(folder_, ignored)) {
    if (entry.path().filename().string().starts_with(kPrefix)) {
      std::filesystem::remove(entry.path(), ignored);
    }
  }
}

std::string SaveTransaction::path(const std::string& name) const {
  check_plain_file_name(name, printable(folder_));
  return folder_ + "/" + name;
}

void SaveTransaction::write(const std::string& name, std::string_view bytes) {
  write(name, [&](const ByteSink& sink) { sink(bytes); });
}

void SaveTransaction::write(const std::string& name, const std::function<void(const ByteSink&)>& produce) {
  check_plain_file_name(name, printable(folder_));
  auto& file = *pending_.emplace_back(std::make_unique<PendingFile>(folder_, name, kPrefix));
  produce([&](std::string_view bytes) { file.write(bytes); });
  file.finish();
  steps_.emplace_back([&file] { file.publish(); });
}

void SaveTransaction::link(const std::string& name, const std::string& second_name) {
  steps_.emplace_back([from = path(name), to = path(second_name)] {
    ::unlink(to.c_str());
    TORCH_CHECK(::link(from.c_str(), to.c_str()) == 0, printable(to),
                ": cannot be linked to the old file: ", std::strerror(errno));
  });
}

void SaveTransaction::remove(const std::string& name) {
  removals_.emplace_back([path = path(name)] {
    TORCH_CHECK(::unlink(path.c_str()) == 0 || errno == ENOENT, printable(path),
                ": cannot be removed: ", std::strerror(errno));
  });
}

void SaveTransaction::commit() {
  for (const auto* steps : {&steps_, &removals_}) {
    for (const auto& step : *steps) {
      step();
      sync_folder(folder_);
    }
  }
  committed_ = true;
}

}  // namespace transformers
