#include <ATen/ATen.h>
#include <transformers/utils/tensor_parallel/parallel_linear.h>

#include "utils/nn/internal/matmul.h"

namespace transformers {

at::Tensor SharedInput::copy(const at::Tensor& input) {
  if (!input_.is_same(input)) {
    input_ = input;
    copy_ = copy_to_group(input, group_);
    readers_left_ = readers_;
  }
  const auto copied = copy_;
  if (--readers_left_ == 0) {
    input_.reset();
    copy_.reset();
  }
  return copied;
}

std::shared_ptr<const LinearMethod> ColwiseParallel::clone(const LinearImpl&, TensorCopies& copies) const {
  return std::make_shared<ColwiseParallel>(copies.of(input_), shared_rows_);
}

torch::Tensor ColwiseParallel::forward(const LinearImpl& linear, const torch::Tensor& input) const {
  const auto copied = input_->copy(input);
  if (shared_rows_.empty()) {
    return functional::linear(copied, linear.weight, linear.bias, linear.is_training());
  }
  const auto shared = [&](const at::Tensor& parameter) { return share_rows(parameter, shared_rows_, input_->group()); };
  return functional::linear(copied, shared(linear.weight), linear.bias.defined() ? shared(linear.bias) : linear.bias,
                            linear.is_training());
}

torch::Tensor RowwiseParallel::forward(const LinearImpl& linear, const torch::Tensor& input) const {
  const auto output = reduce_from_group(functional::linear(input, linear.weight, {}, linear.is_training()), group_);
  return linear.bias.defined() ? output + linear.bias : output;
}

torch::Tensor VocabularyParallel::forward(const LinearImpl& linear, const torch::Tensor& input) const {
  return gather_from_group(
      functional::linear(copy_to_group(input, group_), linear.weight, linear.bias, linear.is_training()), vocabulary_,
      group_);
}

torch::Tensor VocabularyParallel::cross_entropy(const LinearImpl& linear, const torch::Tensor& hidden,
                                                const torch::Tensor& labels,
                                                const LinearCrossEntropyOptions& options) const {
  return vocabulary_parallel_cross_entropy(hidden, linear.weight, linear.bias, labels, vocabulary_, group_, options);
}

}  // namespace transformers
