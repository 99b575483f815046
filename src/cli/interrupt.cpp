#include "cli/interrupt.h"

#include <csignal>

namespace transformers::cli {
namespace {

volatile std::sig_atomic_t noted = 0;  // the signal

void watch_for(int signal) {
  std::signal(signal, [](int number) {
    noted = number;
    std::signal(number, SIG_DFL);
  });
}

}  // namespace

void watch_for_interrupt() {
  noted = 0;
  watch_for(SIGINT);
}

void watch_for_end() {
  watch_for_interrupt();
  watch_for(SIGTERM);
}

void end_on_interrupt() { std::signal(SIGINT, SIG_DFL); }

bool interrupted() { return noted != 0; }

int interrupt_status() { return 128 + (noted != 0 ? static_cast<int>(noted) : SIGINT); }

}  // namespace transformers::cli
