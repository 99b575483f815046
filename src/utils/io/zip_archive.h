#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>

namespace transformers {

/// The records of a zip archive by name, each a piece of `file`. Every record must be stored as it is: compressed and
/// encrypted ones are errors, and so are records that overlap, repeat a name, or are described differently at their
/// place than in the directory. Nothing is allocated but the names. `check_name` sees every name before any record is
/// looked at, and may throw.
std::map<std::string, std::string_view> read_zip_archive(std::string_view file, const std::string& source,
                                                         const std::function<void(const std::string&)>& check_name);

}  // namespace transformers
