#pragma once

#include <ATen/core/Tensor.h>
#include <torch/csrc/autograd/function.h>

#include <functional>
#include <memory>
#include <vector>

namespace transformers {

/// Calls back at the end of each backward that reaches one of the parameters, after whatever else the engine was asked
/// to do there before its last gradient came: c10d's Reducer among it.
class BackwardEnd : public std::enable_shared_from_this<BackwardEnd> {
 public:
  static std::shared_ptr<BackwardEnd> watch(const std::vector<at::Tensor>& parameters, std::function<void()> callback);

  /// A backward that threw has not called back: the next one starts afresh.
  void reset() { queued_ = false; }

 private:
  explicit BackwardEnd(std::function<void()> callback) : callback_(std::move(callback)) {}
  void on_gradient();

  std::function<void()> callback_;
  std::vector<std::shared_ptr<torch::autograd::Node>> accumulators_;  // which the hooks live in
  bool queued_ = false;
};

}  // namespace transformers
