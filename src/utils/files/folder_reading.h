#pragma once

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

}  // namespace transformers
