// A library to be preloaded into a program: it makes the Nth call that touches a folder fail, or ends or stops the
// process there. With a controller the program becomes a fork server: loaded once, it runs its main function in a child
// for each command, which takes milliseconds where a start takes a second.
//
//   IO_FAULTS_FOLDER   absolute path; calls whose path lies in it, or is it, are counted
//   IO_FAULTS_COMMANDS, IO_FAULTS_ANSWERS   descriptors of the controller
//   IO_FAULTS_OUTPUT   where a child's standard output goes; standard error beside it, with .err at its end
//
// A command is a line "N MODE": N counts from 1, 0 is never; MODE is a number (errno), kill or stop. The answer is a
// line "ended STATUS CALLS", STATUS as waitpid gives it, or "stopped PID", which a line "continue" answers.
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace {

struct Plan {
  std::atomic<int> calls{0};
  int fails_at = 0;
  int error = 0;  // 0: a signal instead
  int signal = 0;
};

// Shared with the children, so that the number of calls comes back.
Plan* plan = nullptr;
const char* folder = nullptr;
int commands = -1, answers = -1;

template <typename Function>
Function next(const char* name) {
  return reinterpret_cast<Function>(dlsym(RTLD_NEXT, name));
}

bool lies_in_folder(const char* path) {
  if (folder == nullptr || path == nullptr) {
    return false;
  }
  std::string absolute = path;
  if (path[0] != '/') {
    char here[PATH_MAX];
    if (getcwd(here, sizeof here) == nullptr) {
      return false;
    }
    absolute = std::string(here) + "/" + path;
  }
  const size_t length = std::strlen(folder);
  return absolute.compare(0, length, folder) == 0 && (absolute[length] == '\0' || absolute[length] == '/');
}

/// True when this call is to fail, with errno set.
bool fails(const char* path) {
  if (plan == nullptr || !lies_in_folder(path)) {
    return false;
  }
  if (++plan->calls != plan->fails_at) {
    return false;
  }
  if (plan->signal != 0) {
    raise(plan->signal);
    return false;
  }
  errno = plan->error;
  return true;
}

bool fails(int descriptor) {
  if (plan == nullptr || folder == nullptr) {
    return false;
  }
  char link[64], path[PATH_MAX];
  std::snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
  const auto length = readlink(link, path, sizeof path - 1);
  if (length < 0) {
    return false;
  }
  path[length] = '\0';
  return fails(path);
}

mode_t mode_of(int flags, va_list arguments) {
  return (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(arguments, mode_t) : 0;
}

}  // namespace

#define FORWARD(name, ...) (next<decltype(&name)>(#name)(__VA_ARGS__))

extern "C" {

int open(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const auto mode = mode_of(flags, arguments);
  va_end(arguments);
  return fails(path) ? -1 : FORWARD(open, path, flags, mode);
}
int open64(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const auto mode = mode_of(flags, arguments);
  va_end(arguments);
  return fails(path) ? -1 : FORWARD(open64, path, flags, mode);
}
int openat(int at, const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const auto mode = mode_of(flags, arguments);
  va_end(arguments);
  return fails(path) ? -1 : FORWARD(openat, at, path, flags, mode);
}
FILE* fopen(const char* path, const char* mode) { return fails(path) ? nullptr : FORWARD(fopen, path, mode); }
FILE* fopen64(const char* path, const char* mode) { return fails(path) ? nullptr : FORWARD(fopen64, path, mode); }
int close(int descriptor) {
  const bool is_to_fail = fails(descriptor);
  const int error = errno, status = FORWARD(close, descriptor);
  errno = is_to_fail ? error : errno;
  return is_to_fail ? -1 : status;
}
ssize_t write(int descriptor, const void* bytes, size_t size) {
  return fails(descriptor) ? -1 : FORWARD(write, descriptor, bytes, size);
}
ssize_t writev(int descriptor, const iovec* parts, int count) {
  return fails(descriptor) ? -1 : FORWARD(writev, descriptor, parts, count);
}
ssize_t read(int descriptor, void* bytes, size_t size) {
  return fails(descriptor) ? -1 : FORWARD(read, descriptor, bytes, size);
}
ssize_t pread(int descriptor, void* bytes, size_t size, off_t offset) {
  return fails(descriptor) ? -1 : FORWARD(pread, descriptor, bytes, size, offset);
}
ssize_t pread64(int descriptor, void* bytes, size_t size, off64_t offset) {
  return fails(descriptor) ? -1 : FORWARD(pread64, descriptor, bytes, size, offset);
}
int fsync(int descriptor) { return fails(descriptor) ? -1 : FORWARD(fsync, descriptor); }
int fdatasync(int descriptor) { return fails(descriptor) ? -1 : FORWARD(fdatasync, descriptor); }
int ftruncate(int descriptor, off_t size) noexcept {
  return fails(descriptor) ? -1 : FORWARD(ftruncate, descriptor, size);
}
int rename(const char* from, const char* to) noexcept {
  return fails(from) || fails(to) ? -1 : FORWARD(rename, from, to);
}
int renameat2(int at, const char* from, int to_at, const char* to, unsigned flags) noexcept {
  return fails(to) ? -1 : FORWARD(renameat2, at, from, to_at, to, flags);
}
int unlink(const char* path) noexcept { return fails(path) ? -1 : FORWARD(unlink, path); }
int unlinkat(int at, const char* path, int flags) noexcept {
  return (at == AT_FDCWD ? fails(path) : fails(at)) ? -1 : FORWARD(unlinkat, at, path, flags);
}
int remove(const char* path) noexcept { return fails(path) ? -1 : FORWARD(remove, path); }
int rmdir(const char* path) noexcept { return fails(path) ? -1 : FORWARD(rmdir, path); }
int link(const char* from, const char* to) noexcept { return fails(to) ? -1 : FORWARD(link, from, to); }
int mkdir(const char* path, mode_t mode) noexcept { return fails(path) ? -1 : FORWARD(mkdir, path, mode); }
int flock(int descriptor, int operation) noexcept {
  return fails(descriptor) ? -1 : FORWARD(flock, descriptor, operation);
}
int stat(const char* path, struct stat* status) noexcept { return fails(path) ? -1 : FORWARD(stat, path, status); }
int lstat(const char* path, struct stat* status) noexcept { return fails(path) ? -1 : FORWARD(lstat, path, status); }
void* mmap(void* address, size_t size, int protection, int flags, int descriptor, off_t offset) noexcept {
  return descriptor >= 0 && fails(descriptor) ? MAP_FAILED
                                              : FORWARD(mmap, address, size, protection, flags, descriptor, offset);
}
void* mmap64(void* address, size_t size, int protection, int flags, int descriptor, off64_t offset) noexcept {
  return descriptor >= 0 && fails(descriptor) ? MAP_FAILED
                                              : FORWARD(mmap64, address, size, protection, flags, descriptor, offset);
}

}  // extern "C"

namespace {

using Main = int (*)(int, char**, char**);
Main program_main = nullptr;

/// One line, without its end; false when the controller is gone.
bool read_line(std::string& line) {
  line.clear();
  for (char byte = 0; ::read(commands, &byte, 1) == 1;) {
    if (byte == '\n') {
      return true;
    }
    line += byte;
  }
  return false;
}

void answer(const std::string& text) {
  if (::write(answers, text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
    _exit(1);
  }
}

void redirect(const std::string& path, int descriptor) {
  const int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  dup2(file, descriptor);
  ::close(file);
}

void prepare(const std::string& command) {
  const auto space = command.find(' ');
  const auto mode = command.substr(space + 1);
  plan->calls = 0;
  plan->fails_at = std::atoi(command.c_str());
  plan->signal = mode == "kill" ? SIGKILL : mode == "stop" ? SIGSTOP : 0;
  plan->error = std::atoi(mode.c_str());
}

void wait_for(pid_t child) {
  int status = 0;
  while (waitpid(child, &status, WUNTRACED) == child && WIFSTOPPED(status)) {
    answer("stopped " + std::to_string(child) + "\n");
    std::string line;
    read_line(line);
    kill(child, SIGCONT);
  }
  answer("ended " + std::to_string(status) + " " + std::to_string(plan->calls) + "\n");
}

int serve(int argc, char** argv, char** environment) {
  folder = std::getenv("IO_FAULTS_FOLDER");
  const char* controller = std::getenv("IO_FAULTS_COMMANDS");
  if (controller == nullptr) {
    return program_main(argc, argv, environment);
  }
  commands = std::atoi(controller);
  answers = std::atoi(std::getenv("IO_FAULTS_ANSWERS"));
  const std::string output = std::getenv("IO_FAULTS_OUTPUT");
  auto* const shared =
      static_cast<Plan*>(::mmap(nullptr, sizeof(Plan), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  plan = new (shared) Plan();
  for (std::string command; read_line(command);) {
    prepare(command);
    const auto child = fork();
    if (child == 0) {
      ::close(commands);
      ::close(answers);
      redirect(output, STDOUT_FILENO);
      redirect(output + ".err", STDERR_FILENO);
      return program_main(argc, argv, environment);
    }
    wait_for(child);
  }
  _exit(0);
}

}  // namespace

extern "C" int __libc_start_main(Main main, int argc, char** argv, void (*init)(), void (*fini)(),
                                 void (*end_of_loader)(), void* end_of_stack) {
  program_main = main;
  return next<decltype(&__libc_start_main)>("__libc_start_main")(serve, argc, argv, init, fini, end_of_loader,
                                                                 end_of_stack);
}
