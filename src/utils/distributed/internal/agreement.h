#pragma once

#include <transformers/utils/distributed/process_group.h>

#include <string>
#include <vector>

namespace transformers {

/// What each rank has to say, by rank. Every rank of the group calls it.
std::vector<std::string> exchange_texts(const ProcessGroup& group, const std::string& text);

/// The text of rank `src`, on every rank.
std::string broadcast_text(const ProcessGroup& group, const std::string& text, int64_t src);

/// Throws on every rank the first complaint that some rank has; returns when there is none. Every rank calls it, with
/// an empty text when all is well.
void agree(const ProcessGroup& group, const std::string& complaint);

}  // namespace transformers
