#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/ScalarType.h>
#include <torch/csrc/autograd/function.h>

#include <memory>
#include <vector>

namespace transformers {

/// Parameters that are themselves between steps and copies in a smaller dtype during forward and backward. The tensors
/// stay the same objects; their data is exchanged.
class LowPrecisionParameters : public std::enable_shared_from_this<LowPrecisionParameters> {
 public:
  /// Leaves the small copies in place, so that a Reducer that is built now deals in them.
  static std::shared_ptr<LowPrecisionParameters> make(const std::vector<at::Tensor>& parameters,
                                                      c10::ScalarType dtype);
  ~LowPrecisionParameters();

  /// Before a forward: fresh copies. Gradients that wait for more are cast down, to be added to.
  void use_low();
  /// After a backward, which calls it by itself, or a forward without one. Gradients are cast up.
  void use_full();

 private:
  struct Entry {
    at::Tensor parameter, full, low;
    std::shared_ptr<torch::autograd::Node> accumulator;  // made for the small dtype; null when it needs no gradient
  };

  LowPrecisionParameters() = default;
  void add(const at::Tensor& parameter, c10::ScalarType dtype);
  void on_gradient();

  std::vector<Entry> entries_;
  bool low_in_use_ = false;
  bool end_of_backward_queued_ = false;
};

}  // namespace transformers
