// Creation and destruction of process groups. The ranks first meet in the store and compare what they want
// (rendezvous.cpp), then connect over gloo or NCCL; the groups of a process are kept in one list, the default group
// first.
#include <c10/util/Exception.h>
#include <signal.h>

#include <algorithm>
#include <limits>
#include <mutex>
#include <sstream>
#include <torch/csrc/distributed/c10d/GroupRegistry.hpp>

#include "utils/distributed/backends.h"
#include "utils/distributed/environment.h"
#include "utils/distributed/internal/agreement.h"
#include "utils/distributed/internal/c10d_handles.h"
#include "utils/distributed/internal/collective_error.h"
#include "utils/distributed/rendezvous.h"

namespace transformers {
namespace {

/// The groups of this process, the default one first.
struct Groups {
  std::mutex mutex;
  std::vector<ProcessGroup> alive;
  int64_t init_count = 0;       // equal on all ranks: each job meets under its own prefix
  int64_t sub_group_count = 0;  // equal on all ranks: all take part in new_group
};

Groups& groups() {
  // Not destroyed at exit: its threads may outlive main, and the order in which LibTorch's statics are destroyed is
  // unknown.
  static auto& instance = *new Groups;
  return instance;
}

struct Membership {
  Store store;
  std::string name, backend;
  std::vector<int64_t> global_ranks;
  int64_t rank;
  c10::Device device;
  std::chrono::milliseconds timeout, join_timeout;
  bool check_collectives;
};

c10::intrusive_ptr<c10d::ProcessGroup> connect(const Membership& member) {
  using Type = c10d::ProcessGroup::BackendType;
  const auto& store = member.store.handle().store;
  const auto size = static_cast<int64_t>(member.global_ranks.size());
  const BackendPlan plan{store, member.rank, size, member.join_timeout};
  auto group = c10::make_intrusive<c10d::ProcessGroup>(store, static_cast<int>(member.rank), static_cast<int>(size));
  if (member.backend == "nccl") {
    group->setDefaultBackend(Type::NCCL);
    group->setBackend(c10::kCUDA, Type::NCCL, make_nccl_backend(plan, member.device));
  } else {
    group->setDefaultBackend(Type::GLOO);
    group->setBackend(c10::kCPU, Type::GLOO, make_gloo_backend(plan));
  }
  group->setGroupName(member.name);
  return group;
}

ProcessGroup make_group(const Membership& member) {
  const auto size = static_cast<int64_t>(member.global_ranks.size());
  auto connected = naming_rank(member.rank, size, "connecting over " + member.backend, [&] { return connect(member); });
  const ProcessGroup group(std::make_shared<ProcessGroup::Handle>(
      ProcessGroup::Handle{std::move(connected), member.store, member.name, member.backend, member.global_ranks,
                           member.rank, member.device, member.timeout, member.join_timeout, member.check_collectives}));
  // A rank that continues may end and take the store with it, so all ranks connect first.
  group.barrier();
  group.handle().group->setTimeout(member.timeout);
  c10d::register_process_group(member.name, group.handle().group);
  return group;
}

void destroy(const ProcessGroup& group) {
  auto& handle = group.handle();
  c10d::unregister_process_group(handle.name);
  handle.group.reset();
}

/// gloo writes to connections that a dead rank has closed. As in Python, this must be an error and must not end the
/// process.
void ignore_broken_connections() {
  struct sigaction action {};
  if (sigaction(SIGPIPE, nullptr, &action) == 0 && action.sa_handler == SIG_DFL) {
    action.sa_handler = SIG_IGN;
    sigaction(SIGPIPE, &action, nullptr);
  }
}

void check_options(const ProcessGroupOptions& options, int64_t rank, int64_t world_size) {
  TORCH_CHECK(options.backend == "gloo" || options.backend == "nccl", "backend must be gloo or nccl, got '",
              options.backend, "'");
  TORCH_CHECK(options.backend == "nccl" || !options.device || options.device->is_cpu(),
              "the backend gloo needs tensors on the CPU, got the device ", *options.device);
  TORCH_CHECK(world_size >= 1 && world_size <= std::numeric_limits<int>::max(), "world_size must be at least 1, got ",
              world_size);
  TORCH_CHECK(rank >= 0 && rank < world_size, "rank must be in [0, ", world_size, "), got ", rank);
  TORCH_CHECK(options.timeout.count() > 0 && options.join_timeout.count() > 0,
              "timeout and join_timeout must be above 0, got ", options.timeout.count(), " and ",
              options.join_timeout.count(), " ms");
}

std::vector<int64_t> all_ranks(int64_t world_size) {
  std::vector<int64_t> ranks(world_size);
  for (int64_t rank = 0; rank < world_size; ++rank) {
    ranks[rank] = rank;
  }
  return ranks;
}

std::string to_text(const std::vector<int64_t>& ranks) {
  std::ostringstream text;
  text << at::IntArrayRef(ranks);
  return text.str();
}

void check_same_ranks(const ProcessGroup& world, const std::string& ranks) {
  const auto lists = exchange_texts(world, ranks);
  for (size_t other = 0; other < lists.size(); ++other) {
    TORCH_CHECK(lists[other] == lists[0], "rank ", world.rank(), " of ", world.size(),
                ": new_group needs one list of ranks, rank 0 gave ", lists[0], " and rank ", other, " gave ",
                lists[other]);
  }
}

void check_ranks(const std::vector<int64_t>& sorted, int64_t world_size) {
  TORCH_CHECK(!sorted.empty(), "new_group needs at least one rank");
  TORCH_CHECK(sorted.front() >= 0 && sorted.back() < world_size, "new_group: ranks must be in [0, ", world_size,
              "), got ", at::IntArrayRef(sorted));
  TORCH_CHECK(std::adjacent_find(sorted.begin(), sorted.end()) == sorted.end(), "new_group: each rank comes once, got ",
              at::IntArrayRef(sorted));
}

}  // namespace

ProcessGroup init_process_group(const ProcessGroupOptions& options) {
  auto& all = groups();
  const std::lock_guard lock(all.mutex);
  TORCH_CHECK(all.alive.empty(), "init_process_group: this process has a default group already");
  constexpr auto kMost = std::numeric_limits<int>::max();
  const auto rank = options.rank ? *options.rank : required_integer("RANK", 0, kMost);
  const auto world_size = options.world_size ? *options.world_size : required_integer("WORLD_SIZE", 1, kMost);
  check_options(options, rank, world_size);
  // A short timeout for operations also limits the rendezvous.
  const auto join_timeout = std::min(options.join_timeout, options.timeout);

  const auto device = options.backend == "nccl" ? nccl_device(rank, options.device) : c10::Device(c10::kCPU);

  const auto deadline = std::chrono::steady_clock::now() + join_timeout;
  const auto store = options.store ? *options.store : Store::from_environment(rank, join_timeout);
  TORCH_CHECK(std::chrono::steady_clock::now() < deadline, "rank ", rank, " of ", world_size,
              ": the store has not answered within ", join_timeout.count(), " ms");
  ignore_broken_connections();
  const auto place = meet(store.with_prefix("job" + std::to_string(all.init_count++)),
                          {.rank = rank,
                           .size = world_size,
                           .terms = std::to_string(world_size) + " ranks over " + options.backend,
                           .deadline = deadline,
                           .timeout = join_timeout});
  all.alive.push_back(make_group({place, "default", options.backend, all_ranks(world_size), rank, device,
                                  options.timeout, join_timeout, options.check_collectives}));
  all.sub_group_count = 0;
  return all.alive.front();
}

bool is_initialized() {
  const std::lock_guard lock(groups().mutex);
  return !groups().alive.empty();
}

ProcessGroup default_process_group() {
  const std::lock_guard lock(groups().mutex);
  TORCH_CHECK(!groups().alive.empty(), "there is no process group: call init_process_group first");
  return groups().alive.front();
}

std::optional<ProcessGroup> new_group(const std::vector<int64_t>& ranks,
                                      std::optional<std::chrono::milliseconds> timeout) {
  const auto world = default_process_group();
  auto sorted = ranks;
  std::sort(sorted.begin(), sorted.end());
  check_same_ranks(world, to_text(sorted));
  check_ranks(sorted, world.size());

  auto& all = groups();
  const std::lock_guard lock(all.mutex);
  const auto name = "group" + std::to_string(all.sub_group_count++);
  const auto place = std::find(sorted.begin(), sorted.end(), world.rank());
  if (place == sorted.end()) {
    return std::nullopt;
  }
  const auto& parent = world.handle();
  all.alive.push_back(
      make_group({parent.store.with_prefix(name), name, parent.backend, sorted, place - sorted.begin(), parent.device,
                  timeout.value_or(parent.timeout), std::min(timeout.value_or(parent.timeout), parent.join_timeout),
                  parent.check_collectives}));
  return all.alive.back();
}

void destroy_process_group() {
  auto& all = groups();
  const std::lock_guard lock(all.mutex);
  while (!all.alive.empty()) {
    destroy(all.alive.back());
    all.alive.pop_back();
  }
}

void destroy_process_group(const ProcessGroup& group) {
  group.handle();
  if (group == default_process_group()) {
    destroy_process_group();
    return;
  }
  auto& all = groups();
  const std::lock_guard lock(all.mutex);
  destroy(group);
  std::erase(all.alive, group);
}

}  // namespace transformers
