#pragma once

#include <string>
#include <string_view>

namespace transformers {

/// Text from a file or a user, fit for an error message: control characters, bidirectional marks and invalid UTF-8 are
/// written as escapes, and the rest is cut after 200 characters.
std::string printable(std::string_view untrusted);

/// Length in bytes of the UTF-8 character at the front of `text`, 0 when there is no valid one.
size_t utf8_length(std::string_view text);

}  // namespace transformers
