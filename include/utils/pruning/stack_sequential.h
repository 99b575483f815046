#pragma once

#include <torch/nn/modules/container/sequential.h>
#include <transformers/export.h>

namespace TRANSFORMERS_API transformers {

/// A `torch::nn::Sequential` of tensors that can be nested in another one; LibTorch's own cannot, since its forward is
/// a template. Pruning treats its modules as part of the outer chain, which it cannot do for other derived classes, as
/// they may not run their modules in order.
class StackSequentialImpl final : public torch::nn::SequentialImpl {
 public:
  using torch::nn::SequentialImpl::SequentialImpl;

  torch::Tensor forward(const torch::Tensor& input) { return torch::nn::SequentialImpl::forward(input); }

  std::shared_ptr<torch::nn::Module> clone(const std::optional<torch::Device>& device = std::nullopt) const override {
    auto copy = std::make_shared<StackSequentialImpl>();
    for (const auto& module : *this) {
      copy->push_back(module.clone(device));
    }
    return copy;
  }
};
TORCH_MODULE(StackSequential);

}  // namespace transformers
