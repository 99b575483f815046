#pragma once

#include <transformers/export.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

namespace TRANSFORMERS_API transformers {

/// The values that torchrun passes to each process that it starts.
struct TorchrunWorker {
  int64_t rank = 0;
  int64_t local_rank = 0;  // on this machine; the number of the device to use
  int64_t world_size = 1;
  int64_t local_world_size = 1;
  int64_t restart_count = 0;
  int64_t max_restarts = 0;
  std::string run_id{};
};

/// Reads the environment; nullopt when torchrun did not start this process. Throws when a variable is missing or not a
/// number.
std::optional<TorchrunWorker> torchrun_worker();

/// Runs a worker's main function and returns its exit status. An exception is reported in one line on stderr and as
/// status 1, and is written to torchrun's error file (TORCHELASTIC_ERROR_FILE), so that torchrun's report names the
/// rank that failed first, and the reason. Mirrors `torch.distributed.elastic.multiprocessing.errors.record`.
int record(const std::function<int()>& main);

}  // namespace transformers
