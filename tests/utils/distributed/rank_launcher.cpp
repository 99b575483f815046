#include "utils/distributed/rank_launcher.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>

#include "support/temporary_folder.h"

namespace transformers::testing {
namespace {

constexpr auto kFolderVariable = "TRANSFORMERS_TEST_FOLDER";  // set: this process is one rank of a test
using Environment = std::map<std::string, std::string>;

std::string this_test() {
  const auto* test = ::testing::UnitTest::GetInstance()->current_test_info();
  return std::string(test->test_suite_name()) + "." + test->name();
}

/// A process in a process group of its own, its output in a file.
class Process {
 public:
  Process(const std::vector<std::string>& command, const Environment& environment, const std::string& output)
      : output_(output) {
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, 1, output.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    posix_spawn_file_actions_adddup2(&actions, 1, 2);
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
    const auto arguments = pointers(command);
    const auto variables = merged(environment);
    const auto variable_pointers = pointers(variables);
    const int error =
        posix_spawn(&id_, command[0].c_str(), &actions, &attributes, arguments.data(), variable_pointers.data());
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    TORCH_CHECK(error == 0, command[0], " cannot be started: ", strerror(error));
  }
  Process(Process&& other) noexcept : id_(std::exchange(other.id_, -1)), output_(std::move(other.output_)) {}
  Process& operator=(Process&&) = delete;
  ~Process() {
    if (id_ > 0) {
      end();
    }
  }

  bool has_ended() {
    int status = 0;
    if (!ended_ && waitpid(id_, &status, WNOHANG) == id_) {
      ended_ = true;
      status_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }
    return ended_;
  }

  /// Kills what is left of the process and those it started; returns whether there was anything.
  bool end() {
    const bool left = kill(-id_, SIGKILL) == 0;
    if (!ended_) {
      waitpid(id_, nullptr, 0);
      ended_ = true;
      status_ = 128 + SIGKILL;
    }
    return left;
  }

  RankResult result() const { return {status_, read_file(output_)}; }

 private:
  static std::vector<char*> pointers(const std::vector<std::string>& texts) {
    std::vector<char*> result;
    for (const auto& text : texts) {
      result.push_back(const_cast<char*>(text.c_str()));
    }
    result.push_back(nullptr);
    return result;
  }

  static std::vector<std::string> merged(const Environment& added) {
    std::vector<std::string> variables;
    for (char** entry = environ; *entry != nullptr; ++entry) {
      const std::string text = *entry;
      if (!added.contains(text.substr(0, text.find('=')))) {
        variables.push_back(text);
      }
    }
    for (const auto& [name, value] : added) {
      variables.push_back(name + "=" + value);
    }
    return variables;
  }

  pid_t id_ = -1;
  std::string output_;
  bool ended_ = false;
  int status_ = 0;
};

/// In the process of the test itself, before it starts any: orphans become its children.
void adopt_orphans() { prctl(PR_SET_CHILD_SUBREAPER, 1); }

void wait_for(std::vector<Process>& processes, std::chrono::seconds limit) {
  const auto deadline = std::chrono::steady_clock::now() + limit;
  while (std::chrono::steady_clock::now() < deadline) {
    bool all_ended = true;
    for (auto& process : processes) {
      all_ended = process.has_ended() && all_ended;
    }
    if (all_ended) {
      return;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

std::vector<std::string> this_test_as_command() {
  return {std::filesystem::read_symlink("/proc/self/exe").string(), "--gtest_filter=" + this_test(),
          "--gtest_color=no"};
}

Environment common_environment(const TemporaryFolder& folder) {
  return {{kFolderVariable, folder.path().string()}, {"OMP_NUM_THREADS", "1"}, {"GLOO_SOCKET_IFNAME", "lo"}};
}

int64_t number_of(const char* variable) { return std::stoll(std::getenv(variable)); }

bool is_rank() { return std::getenv(kFolderVariable) != nullptr; }

/// In a process that was started for one rank.
std::vector<RankResult> run_body(const std::function<void(const Rank&)>& body) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  body({number_of("RANK"), number_of("WORLD_SIZE"), std::getenv(kFolderVariable)});
  return {};
}

std::vector<pid_t> children() {
  std::vector<pid_t> ids;
  std::ifstream list("/proc/self/task/" + std::to_string(getpid()) + "/children");
  for (pid_t id = 0; list >> id;) {
    ids.push_back(id);
  }
  return ids;
}

/// What a rank or torchrun left behind has come to this process, whichever session it is in.
void expect_no_child_left() {
  int status = 0;
  const auto found = waitpid(-1, &status, WNOHANG);
  EXPECT_TRUE(found == -1 && errno == ECHILD)
      << (found > 0 ? "process " + std::to_string(found) + " ended without being waited for"
                    : std::to_string(children().size()) + " processes were left behind");
  for (const auto child : children()) {
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
  }
}

std::vector<RankResult> results_of(std::vector<Process>& processes, const std::map<int64_t, int>& expected_status) {
  std::vector<RankResult> results;
  for (size_t rank = 0; rank < processes.size(); ++rank) {
    EXPECT_FALSE(processes[rank].end()) << "process " << rank << " had not ended, or had left one behind";
    results.push_back(processes[rank].result());
    const auto expected = expected_status.contains(rank) ? expected_status.at(rank) : 0;
    EXPECT_EQ(results.back().status, expected) << "status of process " << rank << ", which said:\n"
                                               << results.back().output;
  }
  expect_no_child_left();
  return results;
}

}  // namespace

Store Rank::store() const {
  // c10d removes the file of a store when the last rank closes it, whoever has opened it anew in that moment.
  static std::atomic<int> uses = 0;
  return Store::file(folder + "/store" + std::to_string(uses++), size, std::chrono::seconds(10));
}

ProcessGroup Rank::join(std::chrono::milliseconds timeout, bool check_collectives) const {
  return init_process_group(
      {.store = store(), .rank = rank, .world_size = size, .timeout = timeout, .check_collectives = check_collectives});
}

std::vector<RankResult> run_on_ranks(int64_t ranks, const std::function<void(const Rank&)>& body,
                                     const LaunchOptions& options) {
  if (is_rank()) {
    return run_body(body);
  }
  adopt_orphans();
  const TemporaryFolder folder;
  std::vector<Process> processes;
  for (int64_t rank = 0; rank < ranks; ++rank) {
    auto environment = common_environment(folder);
    environment.insert({{"RANK", std::to_string(rank)}, {"WORLD_SIZE", std::to_string(ranks)}});
    environment.insert(options.environment.begin(), options.environment.end());
    processes.emplace_back(this_test_as_command(), environment, folder / ("output" + std::to_string(rank)));
  }
  wait_for(processes, options.limit);
  return results_of(processes, options.expected_status);
}

std::vector<RankResult> run_under_torchrun(int64_t ranks, const std::function<void(const Rank&)>& body,
                                           const TorchrunOptions& options) {
  if (is_rank()) {
    return run_body(body);
  }
  const std::string torchrun = TRANSFORMERS_TORCHRUN;
  if (!std::filesystem::exists(torchrun)) {
    [] { GTEST_SKIP() << "there is no torchrun"; }();
    return {};
  }
  adopt_orphans();
  const TemporaryFolder folder;
  // The port of torchrun's store is free, whatever else runs here.
  std::vector<std::string> command = {torchrun, "--no-python", "--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0",
                                      "--nproc-per-node=" + std::to_string(ranks)};
  command.insert(command.end(), options.arguments.begin(), options.arguments.end());
  const auto test = this_test_as_command();
  command.insert(command.end(), test.begin(), test.end());
  auto environment = common_environment(folder);
  environment.insert(options.environment.begin(), options.environment.end());
  std::vector<Process> processes;
  processes.emplace_back(command, environment, folder / "output");
  wait_for(processes, options.limit);
  return results_of(processes, {{0, options.expected_status}});
}

}  // namespace transformers::testing
