#pragma once

#include <string>
#include <string_view>

namespace transformers {

/// Throws unless `name` is a file name that cannot leave its folder. `source` begins the message.
void check_plain_file_name(std::string_view name, const std::string& source);

}  // namespace transformers
