#include "utils/distributed/low_precision_parameters.h"

#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/variable.h>
#include <transformers/utils/distributed/storage.h>

namespace transformers {

namespace autograd = torch::autograd;

LowPrecisionParameters::LowPrecisionParameters(const std::vector<at::Tensor>& parameters, c10::ScalarType dtype) {
  for (const auto& parameter : parameters) {
    Entry entry{parameter, parameter.variable_data(), parameter.variable_data().to(dtype), nullptr};
    entry.parameter.set_data(entry.low);
    if (parameter.requires_grad()) {
      // set_data drops an accumulator of another dtype, so the accumulator is kept and restored with each exchange.
      entry.accumulator = autograd::impl::grad_accumulator(parameter);
    }
    entries_.push_back(std::move(entry));
  }
}

void LowPrecisionParameters::use_low() {
  const at::NoGradGuard no_grad;
  for (auto& [parameter, full, low, accumulator] : entries_) {
    alloc_storage(low, low.sizes());
    low.copy_(full);
    parameter.set_data(low);
    if (accumulator) {
      autograd::impl::set_grad_accumulator(parameter, accumulator);
    }
    if (auto& gradient = parameter.mutable_grad(); gradient.defined()) {
      gradient = gradient.to(low.scalar_type());
    }
  }
  low_in_use_ = true;
}

void LowPrecisionParameters::use_full() {
  if (!low_in_use_) {
    return;
  }
  const at::NoGradGuard no_grad;
  for (auto& [parameter, full, low, accumulator] : entries_) {
    parameter.set_data(full);
    if (auto& gradient = parameter.mutable_grad(); gradient.defined()) {
      gradient = gradient.to(full.scalar_type());
    }
    free_storage(low);
  }
  low_in_use_ = false;
}

}  // namespace transformers
