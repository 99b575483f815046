#pragma once

namespace transformers::cli {

/// From now on Ctrl-C is recorded instead of ending the program; a second one ends it.
void watch_for_interrupt();
/// The same, also for SIGTERM, with which schedulers and torchrun end a program.
void watch_for_end();
/// From now on Ctrl-C ends the program.
void end_on_interrupt();
/// Whether a signal has arrived since the last `watch_for_interrupt`.
bool interrupted();
/// The exit status of a program that was stopped by a signal: 128 plus the signal's number, 130 for Ctrl-C.
int interrupt_status();

}  // namespace transformers::cli
