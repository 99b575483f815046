#pragma once

#include <transformers/export.h>

namespace TRANSFORMERS_API transformers {

/// The path, fit for a message, of the open tensor file (see TensorFile) whose memory holds this address; null when
/// there is none.
///
/// Weights that are used where they lie in a file cannot be read once another program has cut that file shorter: the
/// system then raises SIGBUS, which ends the process without a word. A program that wants to say which file it was
/// installs a handler with SA_SIGINFO and hands it `siginfo_t::si_addr`; the function may be called there.
const char* mapped_file_at(const void* pointer) noexcept;

}  // namespace transformers
