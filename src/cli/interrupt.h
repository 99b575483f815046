#pragma once

namespace transformers::cli {

/// From now on Ctrl-C is noted instead of ending the program; a second one ends it.
void watch_for_interrupt();
/// From now on Ctrl-C ends the program.
void end_on_interrupt();
/// Whether there was one since the last `watch_for_interrupt`.
bool interrupted();

}  // namespace transformers::cli
