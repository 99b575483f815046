#pragma once

// The room utils/text handles texts from outside: escaping for messages, UTF-8 and Unicode classes, base64, patterns
// and regular expressions with limits on their cost. It does not know tokenizers or JSON; those are in
// utils/tokenization and utils/json. Everything that comes from a file or a user passes through printable() before it
// enters a message:
//
//     TORCH_CHECK(found, printable(path), ": the weights hold no tensor ", printable(name));

#include <string>
#include <string_view>
#include <vector>

namespace transformers {

/// Makes text from a file or a user safe for an error message: control characters, bidirectional marks and invalid
/// UTF-8 are written as escapes, and the text is truncated after 200 characters.
std::string printable(std::string_view untrusted);

/// Escapes each name; of very many, returns the first hundred and the number of the others.
std::vector<std::string> printable_names(const std::vector<std::string>& untrusted);
/// The same in one text: "a, b and 3 more".
std::string printable_list(const std::vector<std::string>& untrusted);

/// Escapes a whole message for one line of a terminal: the same escapes, line breaks as spaces, truncated only if it is
/// very long.
std::string printable_line(std::string_view message);

/// Length in bytes of the UTF-8 character at the start of `text`; 0 when there is no valid one.
size_t utf8_length(std::string_view text);

}  // namespace transformers
