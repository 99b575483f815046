#pragma once

#include <string>
#include <string_view>

namespace transformers::tokenization {

/// Delimits strings in a canonical template.
inline constexpr char kQuote = '\x1F';

/// Gives Jinja templates with the same meaning the same spelling: white space control is applied (with trim_blocks and
/// lstrip_blocks, as HF sets them), comments and space between words are removed, escapes in strings are resolved, and
/// adjacent outputs are joined. Only for comparison with other canonical templates.
std::string canonical_template(std::string_view chat_template);

}  // namespace transformers::tokenization
