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

/// Uses the network interfaces that GLOO_SOCKET_IFNAME lists, else the one of this machine's host name.
c10::intrusive_ptr<c10d::Backend> make_gloo_backend(const BackendPlan& plan);

/// The device of a rank's tensors: `wanted`, else the one with the number LOCAL_RANK, else with the number of the rank.
/// Loads CUDA; throws when there is none.
c10::Device nccl_device(int64_t rank, std::optional<c10::Device> wanted);

c10::intrusive_ptr<c10d::Backend> make_nccl_backend(const BackendPlan& plan, c10::Device device);

}  // namespace transformers
