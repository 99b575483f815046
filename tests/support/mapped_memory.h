#pragma once

#include <cstdint>
#include <string>

namespace transformers::testing {

/// A figure of /proc/self/smaps ("Rss", "Anonymous") for the mappings of files whose path ends so, in bytes.
int64_t mapped_memory(const std::string& path, const std::string& key);

}  // namespace transformers::testing
