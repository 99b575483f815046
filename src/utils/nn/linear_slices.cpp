#include <ATen/ops/cat.h>
#include <ATen/ops/linear.h>
#include <transformers/utils/nn/linear_slices.h>

namespace transformers {

torch::Tensor RowSlices::forward(const LinearImpl& linear, const torch::Tensor& input) const {
  std::vector<torch::Tensor> parts;
  for (const auto& rows : linear.weight.chunk(slices_, 0)) {
    parts.push_back(at::linear(input, rows));
  }
  const auto output = at::cat(parts, -1);
  return linear.bias.defined() ? output + linear.bias : output;
}

torch::Tensor ColumnSlices::forward(const LinearImpl& linear, const torch::Tensor& input) const {
  const auto columns = linear.weight.chunk(slices_, 1);
  const auto inputs = input.chunk(slices_, -1);
  torch::Tensor sum = at::linear(inputs[0], columns[0]);
  for (size_t i = 1; i < columns.size(); ++i) {
    sum = sum + at::linear(inputs[i], columns[i]);
  }
  return linear.bias.defined() ? sum + linear.bias : sum;
}

}  // namespace transformers
