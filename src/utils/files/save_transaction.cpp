#include <c10/util/Exception.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <transformers/utils/files/save_transaction.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "utils/files/internal/file_name.h"
#include "utils/files/internal/save_journal.h"
#include "utils/files/pending_file.h"
#include "utils/text/printable.h"

namespace transformers {

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
  // On a file system without locks, the save continues without one.
  const bool is_locked = ::flock(lock_, LOCK_EX | LOCK_NB) == 0;
  const bool is_taken = !is_locked && errno == EWOULDBLOCK;
  try {
    TORCH_CHECK(!is_taken, printable(folder_), ": another process is saving into this folder");
    if (is_locked) {
      settle_earlier_saves();
    }
  } catch (...) {
    ::close(lock_);
    throw;
  }
}

/// Finishes an interrupted save and removes its temporary files.
void SaveTransaction::settle_earlier_saves() const {
  if (const auto journal = read_save_journal(folder_)) {
    carry_out(*journal, folder_);
  }
  std::error_code error;
  for (std::filesystem::directory_iterator entry(folder_, error), end; !error && entry != end; entry.increment(error)) {
    const bool is_left_over = entry->path().filename().string().starts_with(kSavingPrefix);
    if (is_left_over && !entry->is_directory(error)) {
      ::unlink(entry->path().c_str());
    }
  }
}

void SaveTransaction::check_name(const std::string& name) const {
  check_plain_file_name(name, printable(folder_));
  TORCH_CHECK(!name.starts_with(kSavingPrefix), printable(folder_), ": the name ", printable(name),
              " is kept for temporary files");
}

void SaveTransaction::forget(const std::string& name) {
  std::erase_if(pending_, [&](const auto& file) { return file->name() == name; });
  removals_.erase(name);
}

void SaveTransaction::write(const std::string& name, std::string_view bytes) {
  write(name, [&](const ByteSink& sink) { sink(bytes); });
}

void SaveTransaction::write(const std::string& name, const std::function<void(const ByteSink&)>& produce) {
  check_name(name);
  auto file = std::make_unique<PendingFile>(folder_, name, kSavingPrefix);
  produce([&](std::string_view bytes) { file->write(bytes); });
  file->finish();
  file->close();
  forget(name);
  pending_.push_back(std::move(file));
}

void SaveTransaction::remove(const std::string& name) {
  check_name(name);
  forget(name);
  removals_.insert(name);
}

/// A single renaming or removal needs no journal.
void SaveTransaction::commit_one() {
  for (const auto& file : pending_) {
    file->publish();
  }
  carry_out({.replacements = {}, .removals = {removals_.begin(), removals_.end()}}, folder_);
}

/// Once the journal exists, it is what gives the files their names.
void SaveTransaction::release_files() {
  for (const auto& file : pending_) {
    file->release();
  }
}

void SaveTransaction::commit_many() {
  SaveJournal journal{.replacements = {}, .removals = {removals_.begin(), removals_.end()}};
  for (const auto& file : pending_) {
    journal.replacements.emplace_back(file->temporary_name(), file->name());
  }
  PendingFile written(folder_, kSaveJournal, std::string(kSavingPrefix) + "new-");
  written.write(journal.to_json());
  written.finish();
  written.publish();
  try {
    sync_folder(folder_);
  } catch (...) {
    if (::unlink((folder_ + "/" + kSaveJournal).c_str()) != 0) {
      release_files();  // the journal remains, so the new files are valid
    }
    throw;
  }
  release_files();
  carry_out(journal, folder_);
}

void SaveTransaction::commit() {
  std::erase_if(removals_, [&](const std::string& name) { return !file_exists(folder_ + "/" + name); });
  pending_.size() + removals_.size() > 1 ? commit_many() : commit_one();
  committed_ = true;
}

}  // namespace transformers
