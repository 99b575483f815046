#pragma once

#include <transformers/utils/files/save_transaction.h>

#include <functional>
#include <string>
#include <string_view>

namespace transformers {

/// Writes one file under a temporary name beside it, brings it to the disk and gives it its name. Other files of the
/// folder are neither locked nor looked at; what a killed process left of the same file is removed. Throws, naming the
/// file, when that name is taken by a folder or a device.
void replace_file(const std::string& path, const std::function<void(const ByteSink&)>& produce);
void replace_file(const std::string& path, std::string_view bytes);

}  // namespace transformers
