#pragma once

#include <transformers/utils/distributed/process_group.h>

#include <string>
#include <vector>

namespace transformers {

/// Gathers the texts of all ranks, ordered by rank. Every rank of the group must call it.
std::vector<std::string> exchange_texts(const ProcessGroup& group, const std::string& text);

/// Returns the text of rank `src` on every rank.
std::string broadcast_text(const ProcessGroup& group, const std::string& text, int64_t src);

/// If any rank passes an error message, throws the first one on every rank. Every rank must call it, with an empty text
/// if it has no error.
void agree(const ProcessGroup& group, const std::string& complaint);

}  // namespace transformers
