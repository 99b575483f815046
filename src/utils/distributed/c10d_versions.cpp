#include "utils/distributed/internal/c10d_versions.h"

#include <algorithm>
#include <limits>
#include <torch/csrc/distributed/c10d/reducer.hpp>
#include <type_traits>

namespace transformers {
namespace {

using Buckets = std::vector<std::vector<size_t>>;

/// The buckets that the reducer rebuilds after a first step whose gradients arrived in the plan's order.
Buckets rebuilt_buckets(const ReducerPlan& plan, const std::vector<size_t>& limits) {
  std::vector<at::Tensor> parameters;
  for (const auto index : plan.gradient_order) {
    parameters.push_back(plan.parameters[static_cast<size_t>(index)]);
  }
  return std::get<0>(
      c10d::compute_bucket_assignment_by_size(parameters, limits, plan.sparse_gradients, plan.gradient_order));
}

Buckets first_buckets(const ReducerPlan& plan) {
  std::vector<size_t> limits = {static_cast<size_t>(plan.first_bucket_bytes), static_cast<size_t>(plan.bucket_bytes)};
  if (!plan.gradient_order.empty()) {
    return rebuilt_buckets(plan, limits);
  }
  if (!plan.find_unused_parameters) {
    limits = {std::numeric_limits<size_t>::max()};
  }
  auto buckets = std::get<0>(c10d::compute_bucket_assignment_by_size(plan.parameters, limits, plan.sparse_gradients));
  // Gradients come in about the reverse order of use.
  std::reverse(buckets.begin(), buckets.end());
  return buckets;
}

std::unordered_map<size_t, std::string> numbered(const std::vector<std::string>& names) {
  std::unordered_map<size_t, std::string> numbered;
  for (size_t i = 0; i < names.size(); ++i) {
    numbered.emplace(i, names[i]);
  }
  return numbered;
}

// A template, so that the branch not taken need not compile.
template <typename Reducer>
std::shared_ptr<Reducer> constructed(const ReducerPlan& plan) {
  using Group = c10::intrusive_ptr<c10d::ProcessGroup>;
  using Names = std::unordered_map<size_t, std::string>;
  constexpr bool has_list_of_caps =
      std::is_constructible_v<Reducer, std::vector<at::Tensor>, Buckets, Group, std::vector<bool>, int64_t, bool, bool,
                              Names, int64_t, bool, bool, std::vector<int64_t>>;
  if constexpr (has_list_of_caps) {
    return std::make_shared<Reducer>(plan.parameters, first_buckets(plan), plan.group, plan.sparse_gradients,
                                     plan.bucket_bytes, plan.find_unused_parameters, plan.gradient_as_bucket_view,
                                     numbered(plan.names), plan.first_bucket_bytes,
                                     /*skip_all_reduce_unused_params=*/false, /*use_python_reducer=*/false,
                                     /*bucket_bytes_cap_list=*/std::vector<int64_t>());
  } else {
    return std::make_shared<Reducer>(plan.parameters, first_buckets(plan), plan.group, plan.sparse_gradients,
                                     plan.bucket_bytes, plan.find_unused_parameters, plan.gradient_as_bucket_view,
                                     numbered(plan.names), plan.first_bucket_bytes);
  }
}

template <typename Group>
c10::intrusive_ptr<c10d::Work> gather(Group& group, at::Tensor& output, at::Tensor& input) {
  if constexpr (requires { group._allgather_base(output, input); }) {
    return group._allgather_base(output, input);
  } else {
    return group.all_gather_single(output, input);
  }
}

template <typename Group>
c10::intrusive_ptr<c10d::Work> scatter(Group& group, at::Tensor& output, at::Tensor& input,
                                       const c10d::ReduceScatterOptions& options) {
  if constexpr (requires { group._reduce_scatter_base(output, input, options); }) {
    return group._reduce_scatter_base(output, input, options);
  } else {
    return group.reduce_scatter_single(output, input, options);
  }
}

template <typename Group>
c10::intrusive_ptr<c10d::Work> exchange(Group& group, at::Tensor& output, at::Tensor& input) {
  std::vector<int64_t> equal_parts;
  if constexpr (requires { group.alltoall_base(output, input, equal_parts, equal_parts); }) {
    return group.alltoall_base(output, input, equal_parts, equal_parts);
  } else {
    return group.all_to_all_single(output, input, equal_parts, equal_parts);
  }
}

}  // namespace

c10::intrusive_ptr<c10d::Work> all_gather_single(c10d::ProcessGroup& group, at::Tensor output, at::Tensor input) {
  return gather(group, output, input);
}

c10::intrusive_ptr<c10d::Work> reduce_scatter_single(c10d::ProcessGroup& group, at::Tensor output, at::Tensor input,
                                                     const c10d::ReduceOp& op) {
  c10d::ReduceScatterOptions options;
  options.reduceOp = op;
  return scatter(group, output, input, options);
}

c10::intrusive_ptr<c10d::Work> all_to_all_equal_parts(c10d::ProcessGroup& group, at::Tensor output, at::Tensor input) {
  return exchange(group, output, input);
}

std::shared_ptr<c10d::Reducer> make_reducer(const ReducerPlan& plan) { return constructed<c10d::Reducer>(plan); }

}  // namespace transformers
