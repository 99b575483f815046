#pragma once

#include <transformers/export.h>

namespace TRANSFORMERS_API transformers {

/// The path, escaped for messages, of the open tensor file (see TensorFile) whose mapping contains this address; null
/// when there is none.
///
/// Memory-mapped weights cannot be read any more when another program has truncated their file: the system then raises
/// SIGBUS, which ends the process without a message. A program that wants to name the file installs a handler with
/// SA_SIGINFO and passes `siginfo_t::si_addr` to this function, which is safe to call there.
const char* mapped_file_at(const void* pointer) noexcept;

}  // namespace transformers
