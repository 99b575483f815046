#pragma once

namespace transformers {

/// Runs automatically when the library is loaded; see amx_guard.cpp.
void bound_instruction_set();

}  // namespace transformers
