#pragma once

#include <map>
#include <string>
#include <string_view>

namespace transformers {

/// The records of a zip archive by name, each a piece of `file`. Every record must be stored as it is: compressed and
/// encrypted ones are errors, and so are records that overlap, repeat a name, or are described differently at their
/// place than in the directory. Nothing is allocated but the names.
std::map<std::string, std::string_view> read_zip_archive(std::string_view file, const std::string& source);

}  // namespace transformers
