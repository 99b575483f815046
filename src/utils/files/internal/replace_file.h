#pragma once

#include <transformers/utils/files/save_transaction.h>

#include <functional>
#include <string>
#include <string_view>

namespace transformers {

/// Writes one file under a temporary name beside it, syncs it to the disk and renames it. Other files of the folder are
/// neither locked nor read; temporary files that a killed process left of the same file are removed. Throws, naming the
/// file, when the name belongs to a folder or a device.
void replace_file(const std::string& path, const std::function<void(const ByteSink&)>& produce);
void replace_file(const std::string& path, std::string_view bytes);

}  // namespace transformers
