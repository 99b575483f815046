#pragma once

#include <string>
#include <string_view>

namespace transformers {

/// Throws unless `name` is a plain file name, which cannot refer to a file outside its folder. `source` begins the
/// message.
void check_plain_file_name(std::string_view name, const std::string& source);

}  // namespace transformers
