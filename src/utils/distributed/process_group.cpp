// The collectives of ProcessGroup over c10d, with the names of torch.distributed. Each checks its tensors, lets the
// ranks compare the operation and the shape (collective_check.cpp), and returns a Work whose errors name this rank.
#include <c10/util/Exception.h>
#include <transformers/utils/distributed/process_group.h>

#include <array>
#include <torch/csrc/distributed/c10d/comm.hpp>

#include "utils/distributed/internal/c10d_handles.h"
#include "utils/distributed/internal/c10d_versions.h"
#include "utils/distributed/internal/collective_check.h"
#include "utils/distributed/internal/collective_error.h"

namespace transformers {
namespace {

c10d::ReduceOp to_c10d(ReduceOp op) {
  switch (op) {
    case ReduceOp::kSum:
      return c10d::ReduceOp::SUM;
    case ReduceOp::kAverage:
      return c10d::ReduceOp::AVG;
    case ReduceOp::kProduct:
      return c10d::ReduceOp::PRODUCT;
    case ReduceOp::kMin:
      return c10d::ReduceOp::MIN;
    case ReduceOp::kMax:
      return c10d::ReduceOp::MAX;
  }
  TORCH_CHECK(false, "unknown ReduceOp ", static_cast<int>(op));
}

using StartedWork = c10::intrusive_ptr<c10d::Work>;

template <typename Start>
Work started(const ProcessGroup& group, const std::string& operation, std::vector<at::Tensor> tensors, Start&& start) {
  auto work = naming_rank(group.rank(), group.size(), operation, [&]() -> StartedWork { return start(tensors); });
  return Work(std::make_shared<Work::Handle>(Work::Handle{group, operation, std::move(tensors), std::move(work)}));
}

/// `details` and the shape of the last tensor have to be the same on all ranks.
template <typename Start>
Work started_by_all(const ProcessGroup& group, const std::string& operation, const std::string& details,
                    std::vector<at::Tensor> tensors, Start&& start) {
  check_same_operation(group, operation + details + " of " + shape_text(tensors.back()));
  return started(group, operation, std::move(tensors), std::forward<Start>(start));
}

std::string name_of(ReduceOp op) {
  static constexpr std::array kNames{" sum", " average", " product", " min", " max"};
  return kNames[static_cast<size_t>(op)];
}

void check_tensor(const char* operation, const at::Tensor& tensor) {
  TORCH_CHECK(tensor.defined(), operation, ": the tensor is undefined");
  TORCH_CHECK(tensor.is_contiguous(), operation, ": the tensor must be contiguous, got sizes ", tensor.sizes(),
              " and strides ", tensor.strides());
}

void check_rank(const ProcessGroup& group, const char* operation, const char* role, int64_t rank) {
  TORCH_CHECK(rank >= 0 && rank < group.size(), operation, ": ", role, " must be in [0, ", group.size(), "), got ",
              rank);
}

void check_peer(const ProcessGroup& group, const char* operation, const char* role, int64_t rank) {
  check_rank(group, operation, role, rank);
  TORCH_CHECK(rank != group.rank(), operation, ": ", role, " must be another rank, got this one, ", rank);
}

/// whole: size() parts of the elements of `part`.
void check_parts(const ProcessGroup& group, const char* operation, const at::Tensor& whole, const at::Tensor& part) {
  check_tensor(operation, whole);
  check_tensor(operation, part);
  TORCH_CHECK(whole.scalar_type() == part.scalar_type(), operation, ": output and input must have one dtype, got ",
              whole.scalar_type(), " and ", part.scalar_type());
  TORCH_CHECK(whole.numel() == group.size() * part.numel(), operation, ": ", whole.sizes(), " is not ", group.size(),
              " times ", part.sizes());
}

}  // namespace

void Work::wait() const {
  const auto& group = handle_->group.handle();
  naming_rank(group.rank, static_cast<int64_t>(group.global_ranks.size()), handle_->operation,
              [&] { handle_->work->wait(); });
}

bool Work::is_completed() const { return handle_->work->isCompleted(); }

ProcessGroup::Handle& ProcessGroup::handle() const {
  TORCH_CHECK(handle_->group, "the process group '", handle_->name, "' was destroyed");
  return *handle_;
}

int64_t ProcessGroup::rank() const { return handle_->rank; }
int64_t ProcessGroup::size() const { return static_cast<int64_t>(handle_->global_ranks.size()); }
const std::string& ProcessGroup::name() const { return handle_->name; }
const std::string& ProcessGroup::backend() const { return handle_->backend; }
const std::vector<int64_t>& ProcessGroup::global_ranks() const { return handle_->global_ranks; }
std::chrono::milliseconds ProcessGroup::timeout() const { return handle_->timeout; }
c10::Device ProcessGroup::device() const { return handle_->device; }

Work ProcessGroup::broadcast(const at::Tensor& tensor, int64_t src) const {
  check_tensor("broadcast", tensor);
  check_rank(*this, "broadcast", "src", src);
  return started_by_all(*this, "broadcast", " from rank " + std::to_string(src), {tensor}, [&](auto& tensors) {
    c10d::BroadcastOptions options;
    options.rootRank = src;
    return handle().group->broadcast(tensors, options);
  });
}

Work ProcessGroup::all_reduce(const at::Tensor& tensor, ReduceOp op) const {
  check_tensor("all_reduce", tensor);
  return started_by_all(*this, "all_reduce", name_of(op), {tensor}, [&](auto& tensors) {
    c10d::AllreduceOptions options;
    options.reduceOp = to_c10d(op);
    return handle().group->allreduce(tensors, options);
  });
}

Work ProcessGroup::reduce(const at::Tensor& tensor, int64_t dst, ReduceOp op) const {
  check_tensor("reduce", tensor);
  check_rank(*this, "reduce", "dst", dst);
  return started_by_all(*this, "reduce", name_of(op) + " to rank " + std::to_string(dst), {tensor}, [&](auto& tensors) {
    c10d::ReduceOptions options;
    options.reduceOp = to_c10d(op);
    options.rootRank = dst;
    return handle().group->reduce(tensors, options);
  });
}

Work ProcessGroup::all_gather_into_tensor(const at::Tensor& output, const at::Tensor& input) const {
  check_parts(*this, "all_gather_into_tensor", output, input);
  return started_by_all(*this, "all_gather_into_tensor", "", {output, input},
                        [&](auto&) { return all_gather_single(*handle().group, output.view({-1}), input.view({-1})); });
}

Work ProcessGroup::reduce_scatter_tensor(const at::Tensor& output, const at::Tensor& input, ReduceOp op) const {
  check_parts(*this, "reduce_scatter_tensor", input, output);
  return started_by_all(*this, "reduce_scatter_tensor", name_of(op), {output, input}, [&](auto&) {
    return reduce_scatter_single(*handle().group, output.view({-1}), input.view({-1}), to_c10d(op));
  });
}

Work ProcessGroup::all_to_all_single(const at::Tensor& output, const at::Tensor& input) const {
  check_tensor("all_to_all_single", output);
  check_tensor("all_to_all_single", input);
  TORCH_CHECK(output.scalar_type() == input.scalar_type() && output.numel() == input.numel(),
              "all_to_all_single: output and input must have one dtype and number of elements, got ",
              output.scalar_type(), " ", output.sizes(), " and ", input.scalar_type(), " ", input.sizes());
  TORCH_CHECK(input.numel() % size() == 0, "all_to_all_single: ", size(), " ranks must divide the elements of ",
              input.sizes());
  return started_by_all(*this, "all_to_all_single", "", {output, input}, [&](auto&) {
    return all_to_all_equal_parts(*handle().group, output.view({-1}), input.view({-1}));
  });
}

Work ProcessGroup::send(const at::Tensor& tensor, int64_t dst, int tag) const {
  check_tensor("send", tensor);
  check_peer(*this, "send", "dst", dst);
  return started(*this, "send to rank " + std::to_string(dst), {tensor}, [&](auto& tensors) {
    return handle().group->send(tensors, static_cast<int>(dst), tag_with_size(tensor, tag));
  });
}

Work ProcessGroup::recv(const at::Tensor& tensor, int64_t src, int tag) const {
  check_tensor("recv", tensor);
  check_peer(*this, "recv", "src", src);
  return started(*this, "recv from rank " + std::to_string(src), {tensor}, [&](auto& tensors) {
    return handle().group->recv(tensors, static_cast<int>(src), tag_with_size(tensor, tag));
  });
}

void ProcessGroup::broadcast_coalesced(const std::vector<at::Tensor>& tensors, int64_t bucket_size, int64_t src) const {
  TORCH_CHECK(bucket_size > 0, "broadcast_coalesced: bucket_size must be above 0, got ", bucket_size);
  check_rank(*this, "broadcast_coalesced", "src", src);
  std::string shapes = "broadcast_coalesced from rank " + std::to_string(src) + " in " + std::to_string(bucket_size) +
                       " bytes of " + std::to_string(tensors.size()) + " tensors";
  for (const auto& tensor : tensors) {
    TORCH_CHECK(tensor.defined(), "broadcast_coalesced: a tensor is undefined");
    shapes += ", " + shape_text(tensor);
  }
  check_same_operation(*this, shapes);
  naming_rank(rank(), size(), "broadcast_coalesced", [&] {
    c10d::broadcast_coalesced(handle().group, tensors, static_cast<size_t>(bucket_size), static_cast<int>(src));
  });
}

void ProcessGroup::barrier() const {
  check_same_operation(*this, "barrier");
  started(*this, "barrier", {}, [&](auto&) {
    c10d::BarrierOptions options;
    options.device = device();
    return handle().group->barrier(options);
  }).wait();
}

void ProcessGroup::monitored_barrier(std::chrono::milliseconds timeout) const {
  TORCH_CHECK(backend() == "gloo", "monitored_barrier needs the gloo backend, this group has ", backend());
  naming_rank(rank(), size(), "monitored_barrier", [&] {
    c10d::BarrierOptions options;
    options.timeout = timeout;
    handle().group->monitoredBarrier(options, /*wait_all_ranks=*/true);
  });
}

}  // namespace transformers
