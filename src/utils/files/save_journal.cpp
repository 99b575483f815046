// The write-ahead journal of a save. A save writes temporary files and then the journal, whose renaming is the moment
// of the commit; carry_out does the renames and removals, which may be repeated after a crash. Readers look files up
// through the journal as long as it exists.
#include "utils/files/internal/save_journal.h"

#include <c10/util/Exception.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>

#include "utils/files/internal/file_name.h"
#include "utils/files/internal/regular_file.h"
#include "utils/json/config_reader.h"
#include "utils/json/strict_json.h"
#include "utils/text/printable.h"

namespace transformers {
namespace {

constexpr JsonLimits kLimits{.max_bytes = 16 << 20};

std::string in(const std::string& folder, const std::string& name) { return folder + "/" + name; }

/// A file whose status cannot be read is not treated as missing.
bool is_there(const std::string& path) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) == 0) {
    return true;
  }
  TORCH_CHECK(errno == ENOENT || errno == ENOTDIR || errno == ELOOP || errno == ENAMETOOLONG, printable(path),
              ": cannot be looked up: ", std::strerror(errno));
  return false;
}

void check(const SaveJournal& journal, const std::string& path) {
  for (const auto& [temporary, name] : journal.replacements) {
    check_plain_file_name(temporary, printable(path));
    check_plain_file_name(name, printable(path));
    TORCH_CHECK(temporary.starts_with(kSavingPrefix) && !name.starts_with(kSavingPrefix), printable(path),
                ": expected a temporary file to replace another, found ", printable(temporary), " and ",
                printable(name));
  }
  for (const auto& name : journal.removals) {
    check_plain_file_name(name, printable(path));
  }
}

SaveJournal parse(const std::string& text, const std::string& path) {
  const auto json = parse_strict_json(text, printable(path), kLimits);
  ConfigReader reader(json, printable(path));
  std::vector<std::string> temporary, name;
  SaveJournal journal;
  reader.read("temporary", temporary);
  reader.read("name", name);
  reader.read("remove", journal.removals);
  TORCH_CHECK(temporary.size() == name.size(), printable(path), ": expected a name for each temporary file, found ",
              temporary.size(), " and ", name.size());
  for (size_t i = 0; i < name.size(); ++i) {
    journal.replacements.emplace_back(std::move(temporary[i]), std::move(name[i]));
  }
  check(journal, path);
  return journal;
}

void rename_file(const std::string& from, const std::string& to) {
  TORCH_CHECK(std::rename(from.c_str(), to.c_str()) == 0 || errno == ENOENT, printable(to),
              ": cannot be put in place: ", std::strerror(errno));
}

void remove_file(const std::string& path) {
  TORCH_CHECK(::unlink(path.c_str()) == 0 || errno == ENOENT, printable(path),
              ": cannot be removed: ", std::strerror(errno));
}

/// A path's folder and name.
std::pair<std::string, std::string> parts_of(const std::string& path) {
  const auto slash = path.rfind('/');
  return slash == std::string::npos ? std::pair(std::string("."), path)
                                    : std::pair(path.substr(0, std::max<size_t>(slash, 1)), path.substr(slash + 1));
}

/// Returns where the file called `name` lies under a temporary name, if it does.
std::optional<std::string> current_path(const SaveJournal& journal, const std::string& folder,
                                        const std::string& name) {
  for (const auto& [temporary, final_name] : journal.replacements) {
    if (final_name == name && is_there(in(folder, temporary))) {
      return in(folder, temporary);
    }
  }
  return std::nullopt;
}

}  // namespace

std::string SaveJournal::to_json() const {
  std::vector<std::string> temporary, name;
  for (const auto& replacement : replacements) {
    temporary.push_back(replacement.first);
    name.push_back(replacement.second);
  }
  return nlohmann::ordered_json{{"temporary", temporary}, {"name", name}, {"remove", removals}}.dump();
}

std::optional<SaveJournal> read_save_journal(const std::string& folder) {
  const auto path = in(folder, kSaveJournal);
  if (!is_there(path)) {
    return std::nullopt;
  }
  try {
    return parse(read_regular_file(path, kLimits.max_bytes), path);
  } catch (const c10::Error&) {
    if (is_there(path)) {
      throw;
    }
    return std::nullopt;  // the save ended in the meantime
  }
}

void carry_out(const SaveJournal& journal, const std::string& folder) {
  for (const auto& [temporary, name] : journal.replacements) {
    rename_file(in(folder, temporary), in(folder, name));
  }
  for (const auto& name : journal.removals) {
    remove_file(in(folder, name));
  }
  sync_folder(folder);
  remove_file(in(folder, kSaveJournal));
  sync_folder(folder);
}

void finish_interrupted_save(const std::string& folder) {
  if (!is_there(in(folder, kSaveJournal))) {
    return;
  }
  const int lock = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (lock < 0) {
    return;
  }
  if (::flock(lock, LOCK_EX | LOCK_NB) == 0) {
    try {
      if (const auto journal = read_save_journal(folder)) {
        carry_out(*journal, folder);
      }
    } catch (const c10::Error&) {  // NOLINT(bugprone-empty-catch)
      // For example, the disk may be read-only. Readers get the same files either way, and whoever reads a broken
      // journal reports what is wrong with it.
    }
  }
  ::close(lock);
}

std::string current_path(const std::string& path) {
  const auto [folder, name] = parts_of(path);
  const auto journal = name == kSaveJournal ? std::nullopt : read_save_journal(folder);
  return journal ? current_path(*journal, folder, name).value_or(path) : path;
}

bool file_exists(const std::string& path) {
  const auto [folder, name] = parts_of(path);
  const auto journal = read_save_journal(folder);
  if (journal && std::ranges::find(journal->removals, name) != journal->removals.end()) {
    return false;
  }
  return (journal && current_path(*journal, folder, name)) || is_there(path);
}

void sync_folder(const std::string& folder) {
  const int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  TORCH_CHECK(descriptor >= 0, printable(folder), ": cannot be opened: ", std::strerror(errno));
  const int status = ::fsync(descriptor);
  const int error = errno;
  ::close(descriptor);
  // Some file systems do not support fsync of a folder, and nothing else can be done there.
  TORCH_CHECK(status == 0 || error == EINVAL || error == ENOTSUP, printable(folder),
              ": cannot be brought to the disk: ", std::strerror(error));
}

}  // namespace transformers
