#pragma once

#include <ATen/core/Tensor.h>
#include <torch/csrc/autograd/function.h>

#include <functional>
#include <memory>
#include <vector>

namespace transformers {

/// Calls a function at the end of each backward that reaches one of the parameters, after the callbacks that were
/// queued before the last of their gradients was computed, such as that of c10d's Reducer.
class BackwardEnd : public std::enable_shared_from_this<BackwardEnd> {
 public:
  static std::shared_ptr<BackwardEnd> watch(const std::vector<at::Tensor>& parameters, std::function<void()> callback);

  /// Needed after a backward that threw, which has not called the function.
  void reset() { queued_ = false; }

 private:
  explicit BackwardEnd(std::function<void()> callback) : callback_(std::move(callback)) {}
  void on_gradient();

  std::function<void()> callback_;
  std::vector<std::shared_ptr<torch::autograd::Node>> accumulators_;  // which own the hooks
  bool queued_ = false;
};

}  // namespace transformers
