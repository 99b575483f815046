#pragma once

#include <memory>
#include <string>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <vector>

namespace c10d {
class Reducer;
}

namespace transformers {

// What differs between LibTorch releases in c10d stands in c10d_versions.cpp alone, chosen by what the classes there
// have, not by their version numbers.

c10::intrusive_ptr<c10d::Work> all_gather_single(c10d::ProcessGroup& group, at::Tensor output, at::Tensor input);
c10::intrusive_ptr<c10d::Work> reduce_scatter_single(c10d::ProcessGroup& group, at::Tensor output, at::Tensor input,
                                                     const c10d::ReduceOp& op);
c10::intrusive_ptr<c10d::Work> all_to_all_equal_parts(c10d::ProcessGroup& group, at::Tensor output, at::Tensor input);

struct ReducerPlan {
  std::vector<at::Tensor> parameters{};
  std::vector<std::string> names{};
  std::vector<bool> sparse_gradients{};
  c10::intrusive_ptr<c10d::ProcessGroup> group{};
  int64_t first_bucket_bytes = 0;
  int64_t bucket_bytes = 0;
  bool find_unused_parameters = false;
  bool gradient_as_bucket_view = false;
};

/// Buckets are laid out as DistributedDataParallel of torch 2.11 does: whole for the first step, then rebuilt in the
/// order in which gradients came; capped from the start where unused parameters are looked for.
std::shared_ptr<c10d::Reducer> make_reducer(const ReducerPlan& plan);

}  // namespace transformers
