#pragma once

#include <transformers/export.h>
#include <transformers/utils/optim/optimizer.h>

#include <vector>

namespace TRANSFORMERS_API transformers {

/// For its lifetime each parameter of an optimizer is stepped inside backward, as soon as its gradient is whole, and
/// the gradient is freed: at no time are there gradients of more than a few parameters. There is nothing left to clip
/// or accumulate. What torch calls optimizer-in-backward (`register_post_accumulate_grad_hook`). The optimizer must
/// outlive it.
class StepInBackward {
 public:
  /// Throws when a parameter has a hook of that kind already.
  explicit StepInBackward(Optimizer& optimizer);
  ~StepInBackward();
  StepInBackward(const StepInBackward&) = delete;
  StepInBackward& operator=(const StepInBackward&) = delete;

  /// The common 2-norm of the gradients since the last call, fp32 []; 0 when there were none.
  at::Tensor take_grad_norm();

 private:
  std::vector<at::Tensor> parameters_, norms_;
};

}  // namespace transformers
