#pragma once

namespace transformers::cli {

/// From now on Ctrl-C is noted instead of ending the program; a second one ends it.
void watch_for_interrupt();
/// Whether there was one since then.
bool interrupted();

}  // namespace transformers::cli
