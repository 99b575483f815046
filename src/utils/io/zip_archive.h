#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>

namespace transformers {

/// The records of a zip archive by name, each a piece of `file`. Every record must be stored uncompressed. Compressed
/// and encrypted records are errors, and so are records that overlap, repeat a name, or have a local header that
/// differs from the central directory. Only the names are allocated. `check_name` is called with every name before any
/// record is read, and may throw.
std::map<std::string, std::string_view> read_zip_archive(std::string_view file, const std::string& source,
                                                         const std::function<void(const std::string&)>& check_name);

}  // namespace transformers
