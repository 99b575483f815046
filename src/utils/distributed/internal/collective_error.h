#pragma once

#include <c10/util/Exception.h>

#include <cstdint>
#include <string>
#include <utility>

namespace transformers {

/// The message of c10d or its backend in one line, without the position in their sources.
std::string reason_of(const std::exception& exception);

/// Runs `run`; its errors become "rank R of N: <operation>: <reason>".
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
