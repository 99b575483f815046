#include <ATen/ops/cat.h>
#include <transformers/utils/nn/linear_slices.h>

#include "utils/nn/internal/matmul.h"

namespace transformers {

torch::Tensor RowSlices::forward(const LinearImpl& linear, const torch::Tensor& input) const {
  std::vector<torch::Tensor> parts;
  for (const auto& rows : linear.weight.chunk(slices_, 0)) {
    parts.push_back(functional::linear(input, rows, {}, linear.is_training()));
  }
  const auto output = at::cat(parts, -1);
  return linear.bias.defined() ? output + linear.bias : output;
}

torch::Tensor ColumnSlices::forward(const LinearImpl& linear, const torch::Tensor& input) const {
  const auto columns = linear.weight.chunk(slices_, 1);
  const auto inputs = input.chunk(slices_, -1);
  const auto product = [&](size_t i) { return functional::linear(inputs[i], columns[i], {}, linear.is_training()); };
  torch::Tensor sum = product(0);
  for (size_t i = 1; i < columns.size(); ++i) {
    sum = sum + product(i);
  }
  return linear.bias.defined() ? sum + linear.bias : sum;
}

}  // namespace transformers
