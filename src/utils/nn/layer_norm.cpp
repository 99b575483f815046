#include <ATen/ops/empty.h>
#include <transformers/utils/nn/construction.h>
#include <transformers/utils/nn/layer_norm.h>

#include "utils/nn/copy_layer.h"

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

void LayerNormImpl::copy_from(const LayerNormImpl& other, TensorCopies& copies) {
  copy_layer(other, *this, parameters_, copies);
}

std::shared_ptr<torch::nn::Module> LayerNormImpl::clone(const std::optional<torch::Device>& device) const {
  auto copy = std::make_shared<LayerNormImpl>(*this);
  TensorCopies copies(device);
  copy->copy_from(*this, copies);
  return copy;
}

}  // namespace transformers
