#include "cli/shortened_file.h"

#include <transformers/utils/files/mapped_memory.h>
#include <unistd.h>

#include <csignal>
#include <cstring>

namespace transformers::cli {
namespace {

void write_text(const char* text) {
  // If stderr takes nothing either, nothing more can be done.
  [[maybe_unused]] const auto count = ::write(STDERR_FILENO, text, std::strlen(text));
}

/// Makes only calls that POSIX allows in a signal handler.
void end_with_the_files_name(int signal, siginfo_t* info, void* /*context*/) {
  const char* path = mapped_file_at(info->si_addr);
  if (path == nullptr) {
    std::signal(signal, SIG_DFL);  // not ours: the instruction is run again and ends the process
    return;
  }
  write_text("error: ");
  write_text(path);
  write_text(": became shorter while it was in use, its tensors can no longer be read\n");
  ::_exit(1);
}

}  // namespace

void report_shortened_files() {
  struct sigaction action {};
  action.sa_sigaction = end_with_the_files_name;
  action.sa_flags = SA_SIGINFO;
  ::sigaction(SIGBUS, &action, nullptr);
}

}  // namespace transformers::cli
