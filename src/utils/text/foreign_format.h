#pragma once

#include <string>
#include <string_view>

namespace transformers {

/// Recognises, by the first bytes, files that are often found in place of the expected one: "a Git LFS pointer (...)",
/// "an HTML page", "a GGUF file", ... Empty when the bytes are none of these.
std::string foreign_format(std::string_view head);

/// The same as the end of a sentence, " (this is an HTML page)", or empty.
std::string foreign_format_note(std::string_view head);

}  // namespace transformers
