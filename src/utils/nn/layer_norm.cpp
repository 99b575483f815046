#include <ATen/ops/empty.h>
#include <transformers/utils/nn/construction.h>
#include <transformers/utils/nn/layer_norm.h>

namespace transformers {

LayerNormImpl::LayerNormImpl(int64_t size, double eps)
    : torch::nn::LayerNormImpl(torch::nn::LayerNormOptions({size}).eps(eps).elementwise_affine(true)) {
  const auto& construction = construction_options();
  const auto replace = [&](const char* name, torch::Tensor& member) {
    member = at::empty({size}, at::TensorOptions().dtype(construction.dtype).device(construction.device));
    member.requires_grad_();
    parameters_[name] = member;
  };
  replace("weight", weight);
  replace("bias", bias);
  if (construction.initialize && !weight.is_meta()) {
    reset_parameters();
  }
}

std::shared_ptr<torch::nn::Module> LayerNormImpl::clone(const std::optional<torch::Device>& device) const {
  const at::NoGradGuard no_grad;
  const ConstructionGuard guard(
      {.dtype = weight.scalar_type(), .device = device.value_or(weight.device()), .initialize = false});
  auto copy = std::make_shared<LayerNormImpl>(options.normalized_shape().front(), options.eps());
  copy->weight.copy_(weight).requires_grad_(weight.requires_grad());
  copy->bias.copy_(bias).requires_grad_(bias.requires_grad());
  copy->train(is_training());
  return copy;
}

}  // namespace transformers
