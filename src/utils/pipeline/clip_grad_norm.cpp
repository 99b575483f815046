// Mirrors clip_grad_norm_ of torch/nn/utils/clip_grad.py, torch 2.11, for gradients that all stages hold together.
#include <ATen/ATen.h>
#include <transformers/utils/pipeline/pipeline_stage.h>

#include "utils/nn/internal/gradient_norm.h"

namespace transformers {

at::Tensor clip_grad_norm_(const PipelineStage& stage, double max_norm) {
  const at::NoGradGuard no_grad;
  auto squares = at::zeros({}, at::TensorOptions().device(stage.group().device()).dtype(at::kFloat));
  std::vector<at::Tensor> gradients;
  for (const auto& parameter : stage.parameters()) {
    const auto& gradient = parameter.grad();
    if (!gradient.defined()) {
      continue;
    }
    gradients.push_back(gradient);
    const auto shared = stage.shared_embeddings();
    if (stage.is_first() || !shared.defined() || !shared.is_same(parameter)) {
      squares += gradient.to(at::kFloat).square().sum().to(squares.device());
    }
  }
  stage.group().all_reduce(squares).wait();
  const auto norm = squares.sqrt();
  clip_grads_with_norm_(gradients, max_norm, norm);
  return norm;
}

}  // namespace transformers
