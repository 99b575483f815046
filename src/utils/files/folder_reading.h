#pragma once

#include <sys/types.h>

#include <compare>
#include <cstdint>
#include <map>
#include <string>

namespace transformers {

/// Distinguishes a file from a later one with the same name.
struct FileIdentity {
  dev_t device;
  ino_t inode;
  int64_t size, seconds, nanoseconds;

  bool operator==(const FileIdentity&) const = default;
};

/// The files of a folder that belong to a model, its tokenizer or an adapter, by name, as if a save that is under way
/// were done; empty if there is no folder. Other files, such as a growing log, are ignored.
std::map<std::string, FileIdentity> model_files(const std::string& folder);

}  // namespace transformers
