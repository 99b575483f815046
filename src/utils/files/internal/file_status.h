#pragma once

#include <string>
#include <vector>

namespace transformers {

// Status of the file at a path, with links followed. Unlike the functions of std::filesystem, these throw c10::Error,
// naming the path, where the system cannot tell: a folder that may not be searched, or links in a circle.

bool path_exists(const std::string& path);
bool is_folder(const std::string& path);
bool is_regular_file(const std::string& path);
/// Whether two paths refer to the same file or folder; false when one of them does not exist.
bool is_same_file(const std::string& path, const std::string& other);

/// The names in a folder, in no particular order.
std::vector<std::string> names_in_folder(const std::string& path);

/// Creates a folder in an existing one, unless it exists already. Throws, naming it, when that fails.
void make_folder(const std::string& path);

}  // namespace transformers
