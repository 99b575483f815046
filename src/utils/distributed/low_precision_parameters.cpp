#include "utils/distributed/low_precision_parameters.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty_like.h>
#include <torch/csrc/autograd/engine.h>
#include <torch/csrc/autograd/utils/lambda_post_hook.h>
#include <torch/csrc/autograd/variable.h>
#include <transformers/utils/distributed/storage.h>

namespace transformers {

namespace autograd = torch::autograd;

std::shared_ptr<LowPrecisionParameters> LowPrecisionParameters::make(const std::vector<at::Tensor>& parameters,
                                                                     c10::ScalarType dtype) {
  std::shared_ptr<LowPrecisionParameters> made(new LowPrecisionParameters);
  for (const auto& parameter : parameters) {
    made->add(parameter, dtype);
  }
  made->low_in_use_ = true;
  return made;
}

void LowPrecisionParameters::add(const at::Tensor& parameter, c10::ScalarType dtype) {
  const auto full = parameter.variable_data();
  const auto low = full.to(dtype, /*non_blocking=*/false, /*copy=*/true);
  at::Tensor(parameter).set_data(low);
  Entry entry{parameter, full, low, nullptr};
  if (parameter.requires_grad()) {
    // set_data drops an accumulator of another dtype: this one is kept, and put back with each exchange.
    entry.accumulator = autograd::impl::grad_accumulator(parameter);
    entry.accumulator->add_post_hook(std::make_unique<autograd::utils::LambdaPostHook>(
        [weak = weak_from_this()](const autograd::variable_list& outputs, const autograd::variable_list&) {
          if (const auto self = weak.lock()) {
            self->on_gradient();
          }
          return outputs;
        }));
  }
  entries_.push_back(std::move(entry));
}

LowPrecisionParameters::~LowPrecisionParameters() { use_full(); }

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
  end_of_backward_queued_ = false;
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

// The Reducer ends its work in a callback of the engine that it queues after the first gradient has come. Queuing from
// within a callback puts the exchange behind it.
void LowPrecisionParameters::on_gradient() {
  if (end_of_backward_queued_) {
    return;
  }
  end_of_backward_queued_ = true;
  auto& engine = autograd::Engine::get_default_engine();
  engine.queue_callback([weak = weak_from_this()] {
    autograd::Engine::get_default_engine().queue_callback([weak] {
      if (const auto self = weak.lock()) {
        self->end_of_backward_queued_ = false;
        self->use_full();
      }
    });
  });
}

}  // namespace transformers
