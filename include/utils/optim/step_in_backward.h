#pragma once

#include <transformers/export.h>
#include <transformers/utils/optim/optimizer.h>

#include <vector>

namespace TRANSFORMERS_API transformers {

/// For its lifetime each parameter of an optimizer is stepped inside backward as soon as its gradient is complete, and
/// the gradient is freed, so that only a few gradients exist at any time. Gradients can therefore be neither clipped
/// nor accumulated. PyTorch calls this optimizer-in-backward (`register_post_accumulate_grad_hook`). The optimizer must
/// outlive it.
class StepInBackward {
 public:
  /// Throws when a parameter has a hook of that kind already.
  explicit StepInBackward(Optimizer& optimizer);
  ~StepInBackward();
  StepInBackward(const StepInBackward&) = delete;
  StepInBackward& operator=(const StepInBackward&) = delete;

  /// The 2-norm of all gradients since the last call together, fp32 []; 0 when there were none.
  at::Tensor take_grad_norm();

 private:
  std::vector<at::Tensor> parameters_, norms_;
};

}  // namespace transformers
