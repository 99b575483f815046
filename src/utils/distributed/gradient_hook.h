#pragma once

#include <c10/core/ScalarType.h>
#include <transformers/utils/distributed/process_group.h>

#include <functional>
#include <optional>
#include <torch/csrc/distributed/c10d/comm.hpp>

namespace transformers {

/// Averages a bucket of gradients over the ranks, in `dtype` if one is given. Its errors name this rank. `on_last` is
/// called for the last bucket of a backward, after all others.
class AverageGradients : public c10d::CommHookInterface {
 public:
  AverageGradients(ProcessGroup group, std::optional<c10::ScalarType> dtype, std::function<void()> on_last)
      : group_(std::move(group)), dtype_(dtype), on_last_(std::move(on_last)) {}

  c10::intrusive_ptr<c10::ivalue::Future> runHook(c10d::GradBucket& bucket) override;
  at::Tensor parseHookResult(const c10::IValue& result) override { return result.toTensor(); }

 private:
  ProcessGroup group_;
  std::optional<c10::ScalarType> dtype_;
  std::function<void()> on_last_;
};

}  // namespace transformers
