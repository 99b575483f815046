#include "utils/training/numbers.h"

#include <ATen/ops/tensor.h>

namespace transformers {

at::Tensor to_tensor(const std::vector<double>& numbers) { return at::tensor(numbers, at::kDouble); }

std::vector<double> numbers_of(const StateDict& state, const std::string& name, int64_t count) {
  const auto* found = state.find(name);
  TORCH_CHECK(found != nullptr, "training state: \"", name, "\" is missing");
  TORCH_CHECK(found->scalar_type() == at::kDouble && found->dim() == 1 && (count < 0 || found->numel() == count),
              "training state: \"", name, "\" must be float64 numbers", count < 0 ? "" : ", " + std::to_string(count),
              ", found ", found->scalar_type(), " of shape ", found->sizes());
  const auto numbers = found->cpu().contiguous();
  return {numbers.const_data_ptr<double>(), numbers.const_data_ptr<double>() + numbers.numel()};
}

double number_of(const StateDict& state, const std::string& name) { return numbers_of(state, name, 1).front(); }

}  // namespace transformers
