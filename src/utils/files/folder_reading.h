#pragma once

#include <c10/util/Exception.h>
#include <sys/types.h>

#include <compare>
#include <cstdint>
#include <map>
#include <string>

namespace transformers {

/// What tells a file from a later one of the same name.
struct FileIdentity {
  dev_t device;
  ino_t inode;
  int64_t size, seconds, nanoseconds;

  bool operator==(const FileIdentity&) const = default;
};

/// The files of a folder that belong to a model, its tokenizer or an adapter, by name, as they are once a save that is
/// being carried out is done; empty without a folder. Others, a log that grows say, do not count.
std::map<std::string, FileIdentity> model_files(const std::string& folder);

/// Calls `read`, which opens files of the folder, until no save has changed the folder meanwhile; so what it gives
/// comes from one save. A save that died is finished first. An error that `read` throws counts when the folder did not
/// change.
template <typename Read>
auto from_one_save(const std::string& folder, const Read& read);

/// Finishes what a save that died left to do. The number of times that from_one_save tries.
int prepare_reading(const std::string& folder);

template <typename Read>
auto from_one_save(const std::string& folder, const Read& read) {
  for (int attempts = prepare_reading(folder); attempts > 0; --attempts) {
    const auto before = model_files(folder);
    try {
      auto result = read();
      if (model_files(folder) == before) {
        return result;
      }
    } catch (const c10::Error&) {
      if (model_files(folder) == before) {
        throw;
      }
    }
  }
  TORCH_CHECK(false, folder, ": its files are replaced again and again while they are read");
}

}  // namespace transformers
