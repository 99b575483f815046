#pragma once

#include <c10/util/Exception.h>

#include <cstdint>
#include <string>
#include <utility>

namespace transformers {

/// What c10d or its backend says, in one line, without the place in their sources.
std::string reason_of(const std::exception& exception);

/// Runs `run`; what it throws becomes "rank R of N: <operation>: <reason>".
template <typename Run>
auto naming_rank(int64_t rank, int64_t size, const std::string& operation, Run&& run) {
  const auto fail = [&](const std::string& reason) {
    TORCH_CHECK(false, "rank ", rank, " of ", size, ": ", operation, ": ", reason);
  };
  try {
    return std::forward<Run>(run)();
  } catch (const std::exception& exception) {
    fail(reason_of(exception));
    throw;
  }
}

}  // namespace transformers
