#pragma once

#include <c10/core/Device.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>

namespace transformers {

struct BackendPlan {
  c10::intrusive_ptr<c10d::Store> store;
  int64_t rank, size;
  std::chrono::milliseconds timeout;
};

/// Interfaces are those GLOO_SOCKET_IFNAME lists, else the one of this machine's name.
c10::intrusive_ptr<c10d::Backend> make_gloo_backend(const BackendPlan& plan);

/// Where a rank's tensors have to lie: `wanted`, else the device of its LOCAL_RANK, else of its rank. Loads CUDA;
/// throws when there is none.
c10::Device nccl_device(int64_t rank, std::optional<c10::Device> wanted);

c10::intrusive_ptr<c10d::Backend> make_nccl_backend(const BackendPlan& plan, c10::Device device);

}  // namespace transformers
