#pragma once

namespace transformers::cli {

/// From now on Ctrl-C is noted instead of ending the program; a second one ends it.
void watch_for_interrupt();
/// The same, and for SIGTERM, by which schedulers and torchrun end a program.
void watch_for_end();
/// From now on Ctrl-C ends the program.
void end_on_interrupt();
/// Whether there was one since the last `watch_for_interrupt`.
bool interrupted();
/// With what status a program ends that was stopped so: 128 and the signal's number, 130 for Ctrl-C.
int interrupt_status();

}  // namespace transformers::cli
