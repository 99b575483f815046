#pragma once

#include <string>
#include <vector>

namespace transformers {

// What lies under a path, links followed. Unlike std::filesystem's functions of these names they throw c10::Error,
// naming the path, where the system cannot say: a folder that may not be searched, links that lead in a circle.

bool path_exists(const std::string& path);
bool is_folder(const std::string& path);
bool is_regular_file(const std::string& path);
/// Whether two paths lead to the same file or folder; false when there is nothing under one of them.
bool is_same_file(const std::string& path, const std::string& other);

/// The names in a folder, in no order.
std::vector<std::string> names_in_folder(const std::string& path);

/// Creates a folder in one that exists, if it is not there yet. Throws, naming it, when that fails.
void make_folder(const std::string& path);

}  // namespace transformers
