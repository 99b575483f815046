#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/ScalarType.h>
#include <torch/csrc/autograd/function.h>

#include <memory>
#include <vector>

namespace transformers {

/// Parameters that are themselves between steps and copies in a smaller dtype during forward and backward. The tensors
/// stay the same objects; their data is exchanged.
class LowPrecisionParameters {
 public:
  /// Leaves the small copies in place, so that a Reducer that is built now deals in them.
  LowPrecisionParameters(const std::vector<at::Tensor>& parameters, c10::ScalarType dtype);
  LowPrecisionParameters(const LowPrecisionParameters&) = delete;
  LowPrecisionParameters& operator=(const LowPrecisionParameters&) = delete;
  ~LowPrecisionParameters() { use_full(); }

  /// Before a forward: fresh copies. Gradients that wait for more are cast down, to be added to.
  void use_low();
  /// After a backward, or a forward without one. Gradients are cast up.
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
