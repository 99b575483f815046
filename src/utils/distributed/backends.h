#pragma once

#include <chrono>
#include <cstdint>
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

}  // namespace transformers
