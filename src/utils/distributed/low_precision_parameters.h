#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/ScalarType.h>
#include <torch/csrc/autograd/function.h>

#include <memory>
#include <vector>

namespace transformers {

/// Replaces the data of parameters by copies in a smaller dtype during forward and backward. The tensors remain the
/// same objects.
class LowPrecisionParameters {
 public:
  /// Leaves the small copies in place, so that a Reducer that is built now uses their dtype.
  LowPrecisionParameters(const std::vector<at::Tensor>& parameters, c10::ScalarType dtype);
  LowPrecisionParameters(const LowPrecisionParameters&) = delete;
  LowPrecisionParameters& operator=(const LowPrecisionParameters&) = delete;
  ~LowPrecisionParameters() { use_full(); }

  /// Called before a forward: makes new copies. Accumulated gradients are cast down, so that backward can add to them.
  void use_low();
  /// Called after a backward, or after a forward without one. Gradients are cast up.
  void use_full();

 private:
  struct Entry {
    at::Tensor parameter, full, low;
    std::shared_ptr<torch::autograd::Node> accumulator;  // made for the small dtype; null when it needs no gradient
  };

  std::vector<Entry> entries_;
  bool low_in_use_ = true;
};

}  // namespace transformers
