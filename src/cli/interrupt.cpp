#include "cli/interrupt.h"

#include <csignal>

namespace transformers::cli {
namespace {

volatile std::sig_atomic_t noted = 0;

}  // namespace

void watch_for_interrupt() {
  noted = 0;
  std::signal(SIGINT, [](int) {
    noted = 1;
    std::signal(SIGINT, SIG_DFL);
  });
}

void end_on_interrupt() { std::signal(SIGINT, SIG_DFL); }

bool interrupted() { return noted != 0; }

}  // namespace transformers::cli
