#include "utils/distributed/backward_end.h"

#include <torch/csrc/autograd/engine.h>
#include <torch/csrc/autograd/utils/lambda_post_hook.h>
#include <torch/csrc/autograd/variable.h>

namespace transformers {

namespace autograd = torch::autograd;

std::shared_ptr<BackwardEnd> BackwardEnd::watch(const std::vector<at::Tensor>& parameters,
                                                std::function<void()> callback) {
  std::shared_ptr<BackwardEnd> watcher(new BackwardEnd(std::move(callback)));
  for (const auto& parameter : parameters) {
    auto accumulator = autograd::impl::grad_accumulator(parameter);
    accumulator->add_post_hook(std::make_unique<autograd::utils::LambdaPostHook>(
        [weak = watcher->weak_from_this()](const autograd::variable_list& outputs, const autograd::variable_list&) {
          if (const auto self = weak.lock()) {
            self->on_gradient();
          }
          return outputs;
        }));
    watcher->accumulators_.push_back(std::move(accumulator));
  }
  return watcher;
}

// The Reducer queues its own callback when the last gradient has arrived. A callback that is queued inside a callback
// therefore runs after it.
void BackwardEnd::on_gradient() {
  if (queued_) {
    return;
  }
  queued_ = true;
  autograd::Engine::get_default_engine().queue_callback([weak = weak_from_this()] {
    autograd::Engine::get_default_engine().queue_callback([weak] {
      if (const auto self = weak.lock()) {
        self->queued_ = false;
        self->callback_();
      }
    });
  });
}

}  // namespace transformers
