#pragma once

/// \file
/// The room utils/distributed connects the processes of a job: process groups over LibTorch's c10d, torchrun's
/// environment, and data parallelism (data_parallel.h), in which every rank holds a whole replica. Models that are
/// split over ranks are in utils/fully_sharded, utils/tensor_parallel and utils/pipeline.
///
///     const auto group = init_process_group();  // in a process that torchrun started
///     const auto sum = at::full({1}, static_cast<double>(group.rank()));
///     group.all_reduce(sum).wait();
///     destroy_process_group();

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>
#include <transformers/export.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace TRANSFORMERS_API transformers {

// Process groups over LibTorch's c10d, with the names of torch.distributed. Every error is a c10::Error; errors that
// involve other ranks begin with "rank R of N". A group may be used by one thread at a time, and all its ranks must
// call the same operations in the same order.

/// The key-value store through which the ranks of a job find each other. It is a handle: copies refer to the same
/// store. Functions that wait throw after the store's timeout.
class Store {
 public:
  struct TcpOptions {
    std::string host = "localhost";
    uint16_t port = 29500;   // for a server, 0 chooses a free port; see port()
    bool is_server = false;  // one process of the job is the server, and must live until all others are done
    std::chrono::milliseconds timeout = std::chrono::minutes(5);
    bool use_libuv = true;
    bool multi_tenant = false;  // several servers of this process may share the port
  };
  static Store tcp(const TcpOptions& options);
  /// A store in a file that all ranks can access. The file must not exist or be empty when the job starts. It is
  /// removed when the last rank releases its store; use another file for the next job.
  static Store file(const std::string& path, int64_t world_size,
                    std::chrono::milliseconds timeout = std::chrono::minutes(5));
  /// The store torchrun describes by MASTER_ADDR, MASTER_PORT, TORCHELASTIC_USE_AGENT_STORE and USE_LIBUV: torchrun's
  /// own, with every rank as a client, or else one that rank 0 serves. Keys get a prefix of the restart count and the
  /// number of ranks, because torchrun's store outlives the workers that it restarts. Mirrors the `env://` rendezvous.
  static Store from_environment(int64_t rank, std::chrono::milliseconds timeout = std::chrono::minutes(5));

  /// The same store with `prefix` in front of every key.
  Store with_prefix(const std::string& prefix) const;

  void set(const std::string& key, const std::string& value) const;
  /// Waits until the key exists.
  std::string get(const std::string& key) const;
  /// Adds to a counter that starts at 0; returns the sum.
  int64_t add(const std::string& key, int64_t amount) const;
  bool contains(const std::string& key) const;
  void wait(const std::vector<std::string>& keys, std::chrono::milliseconds timeout) const;
  /// The port of a TCP store.
  uint16_t port() const;

  struct TRANSFORMERS_PRIVATE Handle;
  explicit Store(std::shared_ptr<Handle> handle) : handle_(std::move(handle)) {}
  const Handle& handle() const { return *handle_; }

 private:
  std::shared_ptr<Handle> handle_;
};

enum class ReduceOp { kSum, kAverage, kProduct, kMin, kMax };

/// An operation in progress. Its tensors are read and written until wait() has returned.
class [[nodiscard]] Work {
 public:
  /// Blocks until the operation is done. Throws, naming this rank, the operation and the reason, when a rank died,
  /// disagreed, or did not join within the group's timeout.
  void wait() const;
  bool is_completed() const;

  struct TRANSFORMERS_PRIVATE Handle;
  explicit Work(std::shared_ptr<Handle> handle) : handle_(std::move(handle)) {}

 private:
  std::shared_ptr<Handle> handle_;
};

/// A set of ranks of a job and the connections between them. It is a handle: copies refer to the same group.
class ProcessGroup {
 public:
  int64_t rank() const;  // of this process, within the group
  int64_t size() const;
  const std::string& name() const;
  const std::string& backend() const;
  /// The group's members as ranks of the whole job, by rank within the group.
  const std::vector<int64_t>& global_ranks() const;
  std::chrono::milliseconds timeout() const;
  /// The device on which tensors have to be: the CPU for gloo, this rank's device for nccl.
  c10::Device device() const;

  // The operations work in place, on contiguous tensors of the same shape and dtype on all ranks. Ranks are numbered
  // within the group. Collectives start when all ranks have called them. send and recv start at once and match a call
  // of the partner with the same size and tag, in [0, 65536).
  Work broadcast(const at::Tensor& tensor, int64_t src) const;
  Work all_reduce(const at::Tensor& tensor, ReduceOp op = ReduceOp::kSum) const;
  /// Only rank `dst` gets the result; the tensors of the other ranks have undefined values afterwards.
  Work reduce(const at::Tensor& tensor, int64_t dst, ReduceOp op = ReduceOp::kSum) const;
  /// output: size() times the elements of input, ordered by rank.
  Work all_gather_into_tensor(const at::Tensor& output, const at::Tensor& input) const;
  /// input: size() times the elements of output; rank r gets part r of the sum.
  Work reduce_scatter_tensor(const at::Tensor& output, const at::Tensor& input, ReduceOp op = ReduceOp::kSum) const;
  /// Part r of every rank's input goes to rank r; both have the same number of elements, which size() must divide.
  Work all_to_all_single(const at::Tensor& output, const at::Tensor& input) const;
  Work send(const at::Tensor& tensor, int64_t dst, int tag = 0) const;
  Work recv(const at::Tensor& tensor, int64_t src, int tag = 0) const;
  /// Copies tensors of any dtypes from one rank to all, several of them in one message of up to `bucket_size` bytes.
  void broadcast_coalesced(const std::vector<at::Tensor>& tensors, int64_t bucket_size, int64_t src) const;

  /// Returns when every rank has called it.
  void barrier() const;
  /// The same through rank 0, whose error names every rank that did not call it in time. gloo only.
  void monitored_barrier(std::chrono::milliseconds timeout) const;

  struct TRANSFORMERS_PRIVATE Handle;
  explicit ProcessGroup(std::shared_ptr<Handle> handle) : handle_(std::move(handle)) {}
  /// Throws when the group was destroyed.
  Handle& handle() const;
  bool operator==(const ProcessGroup& other) const { return handle_ == other.handle_; }

 private:
  std::shared_ptr<Handle> handle_;
};

struct ProcessGroupOptions {
  std::string backend = "gloo";         // gloo: CPU; nccl: CUDA, one device per rank
  std::optional<Store> store{};         // unset: Store::from_environment
  std::optional<int64_t> rank{};        // unset: the environment's RANK
  std::optional<int64_t> world_size{};  // unset: the environment's WORLD_SIZE
  std::optional<c10::Device> device{};  // of this rank's tensors. nccl, unset: cuda:LOCAL_RANK; gloo: the CPU
  std::chrono::milliseconds timeout = std::chrono::minutes(30);  // for each operation
  /// Timeout for the ranks to find each other and connect. Shorter than in Python, which waits half an hour for a rank
  /// that died early.
  std::chrono::milliseconds join_timeout = std::chrono::minutes(5);
  /// Compare operation, shape and dtype over the ranks before each collective, with one small message, so that ranks
  /// that disagree get an error that names them. Without the check, gloo ends the process in that case.
  bool check_collectives = true;
};

/// Makes this process one rank of a job; under torchrun, `init_process_group()` is enough. Returns when all ranks are
/// connected. Throws when this process has a group already, two processes claim the same rank, ranks disagree on size
/// or backend, or some do not join in time; the error names them. From then on the process ignores SIGPIPE, as Python
/// does, unless it has a handler, so that writing to a rank that died is an error. Mirrors
/// `torch.distributed.init_process_group`.
ProcessGroup init_process_group(const ProcessGroupOptions& options = {});
bool is_initialized();
/// The group of all ranks. Throws if init_process_group has not been called.
ProcessGroup default_process_group();

/// Makes a group of some ranks. Every rank of the job must call it with the same ranks, in any order; ranks outside the
/// group get nullopt. Throws on every rank when the lists differ, are empty, or name a rank twice or one that does not
/// exist.
std::optional<ProcessGroup> new_group(const std::vector<int64_t>& ranks,
                                      std::optional<std::chrono::milliseconds> timeout = std::nullopt);

/// Closes all groups of this process and their connections; using one afterwards throws. Does nothing when there is
/// none.
void destroy_process_group();
/// Closes one group; closing the default group closes all others too.
void destroy_process_group(const ProcessGroup& group);

}  // namespace transformers
