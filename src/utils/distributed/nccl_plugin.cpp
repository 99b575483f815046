// NCCL lives in LibTorch's CUDA half, which the library does not link. This file is a shared library of its own, built
// where the headers of CUDA and NCCL are, and loaded by load_nccl.cpp when a group asks for NCCL.
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>

#include "utils/distributed/backends.h"

extern "C" void transformers_make_nccl_backend(const transformers::BackendPlan& plan, c10::Device device,
                                               c10::intrusive_ptr<c10d::Backend>& backend) {
  auto options = c10d::ProcessGroupNCCL::Options::create();
  options->timeout = plan.timeout;
  backend = c10::make_intrusive<c10d::ProcessGroupNCCL>(plan.store, static_cast<int>(plan.rank),
                                                        static_cast<int>(plan.size), std::move(options));
  backend->setBoundDeviceId(device);
}
