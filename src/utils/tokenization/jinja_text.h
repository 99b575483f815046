#pragma once

#include <string>
#include <string_view>

namespace transformers::tokenization {

/// Marks both ends of a string in a canonical template.
inline constexpr char kQuote = '\x1F';

/// One spelling for Jinja templates that mean the same: white space control is carried out (with trim_blocks and
/// lstrip_blocks, as HF sets them), comments and space between words are gone, strings have their escapes read, and
/// neighbouring outputs are joined. Only for comparison with other canonical templates.
std::string canonical_template(std::string_view chat_template);

}  // namespace transformers::tokenization
