#pragma once

#include <memory>
#include <string>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <vector>

namespace c10d {
class Reducer;
}

namespace transformers {

// Differences of c10d between LibTorch releases are handled in c10d_versions.cpp alone, by the members that its classes
// have, not by version numbers.

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
  std::vector<int64_t> gradient_order{};  // indices of the parameters; empty: unknown
};

/// Lays out buckets as DistributedDataParallel of torch 2.11 does: one bucket for the first step, then rebuilt in the
/// order in which gradients arrived; with find_unused_parameters they have limited sizes from the start. With a known
/// order of gradients the first step has the buckets that the later ones have.
std::shared_ptr<c10d::Reducer> make_reducer(const ReducerPlan& plan);

}  // namespace transformers
