#pragma once

#include <transformers/utils/distributed/process_group.h>

#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>

namespace transformers {

struct Store::Handle {
  c10::intrusive_ptr<c10d::Store> store;
  std::optional<uint16_t> port;
};

struct ProcessGroup::Handle {
  c10::intrusive_ptr<c10d::ProcessGroup> group;  // null once destroyed
  Store store;
  std::string name, backend;
  std::vector<int64_t> global_ranks;
  int64_t rank;
  c10::Device device;
  std::chrono::milliseconds timeout, join_timeout;
  bool check_collectives;
};

struct Work::Handle {
  ProcessGroup group;
  std::string operation;
  std::vector<at::Tensor> tensors;
  c10::intrusive_ptr<c10d::Work> work;
};

}  // namespace transformers
