// Mirrors clip_grad_norm_ of torch/nn/utils/clip_grad.py, torch 2.11, for gradients that several ranks hold together.
#include <ATen/ATen.h>
#include <transformers/utils/tensor_parallel/tensor_parallel.h>

#include <algorithm>
#include <unordered_set>

#include "utils/nn/internal/gradient_norm.h"

namespace transformers {
namespace {

/// The ranks that hold the same part as this one.
int64_t holders(const TensorParallel& parallel, const std::string& name) {
  const auto found = parallel.slices.find(name);
  if (found == parallel.slices.end()) {
    return parallel.group.size();
  }
  const auto& parts = found->second.parts;
  const auto own = parts[static_cast<size_t>(parallel.group.rank())].start;
  return std::count_if(parts.begin(), parts.end(), [&](const Part& part) { return part.start == own; });
}

}  // namespace

at::Tensor clip_grad_norm_(const PreTrainedModel& model, const TensorParallel& parallel, double max_norm) {
  const at::NoGradGuard no_grad;
  auto squares = at::zeros({}, at::TensorOptions().device(parallel.group.device()).dtype(at::kFloat));
  std::vector<at::Tensor> gradients;
  std::unordered_set<const void*> seen;  // a tied parameter counts once
  for (const auto& parameter : model.named_parameters()) {
    const auto& gradient = parameter->grad();
    if (gradient.defined() && seen.insert(parameter->unsafeGetTensorImpl()).second) {
      squares += gradient.to(at::kFloat).square().sum() / holders(parallel, parameter.key());
      gradients.push_back(gradient);
    }
  }
  parallel.group.all_reduce(squares).wait();
  const auto norm = squares.sqrt();
  clip_grads_with_norm_(gradients, max_norm, norm);
  return norm;
}

}  // namespace transformers
