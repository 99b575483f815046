#include <ATen/ops/empty.h>
#include <transformers/utils/nn/construction.h>
#include <transformers/utils/nn/linear.h>

#include "utils/nn/copy_layer.h"
#include "utils/nn/internal/matmul.h"

namespace transformers {
namespace {

// The base class initialises what it builds, so it builds one element and the real parameters replace it.
torch::nn::LinearOptions smallest() { return torch::nn::LinearOptions(1, 1).bias(false); }

at::Tensor new_parameter(at::IntArrayRef sizes) {
  const auto& options = construction_options();
  return at::empty(sizes, at::TensorOptions().dtype(options.dtype).device(options.device));
}

}  // namespace

LinearImpl::LinearImpl(int64_t in_features, int64_t out_features, bool bias) : torch::nn::LinearImpl(smallest()) {
  set_parameters(new_parameter({out_features, in_features}), bias ? new_parameter({out_features}) : at::Tensor());
  if (construction_options().initialize && !this->weight.is_meta()) {
    reset_parameters();
  }
}

LinearImpl::LinearImpl(torch::Tensor weight, torch::Tensor bias) : torch::nn::LinearImpl(smallest()) {
  set_parameters(std::move(weight), std::move(bias));
}

void LinearImpl::set_parameters(torch::Tensor new_weight, torch::Tensor new_bias) {
  TORCH_CHECK(new_weight.dim() == 2, "Linear: the weight must have 2 dimensions, got ", new_weight.dim());
  TORCH_CHECK(!new_bias.defined() || new_bias.sizes() == at::IntArrayRef{new_weight.size(0)},
              "Linear: the bias must have shape [", new_weight.size(0), "], got ", new_bias.sizes());
  const bool requires_grad = weight.requires_grad();
  options = torch::nn::LinearOptions(new_weight.size(1), new_weight.size(0)).bias(new_bias.defined());
  weight = new_weight.detach().requires_grad_(requires_grad && new_weight.is_floating_point());
  parameters_["weight"] = weight;
  bias = new_bias.defined() ? new_bias.detach().requires_grad_(weight.requires_grad()) : at::Tensor();
  parameters_["bias"] = bias;
}

void LinearImpl::tie_weight(const torch::Tensor& shared) {
  TORCH_CHECK(shared.sizes() == weight.sizes(), "Linear: the shared weight must have shape ", weight.sizes(), ", got ",
              shared.sizes());
  weight = shared;
  parameters_["weight"] = weight;
}

torch::Tensor LinearImpl::forward(const torch::Tensor& input) {
  if (method_) {
    return method_->forward(*this, input);
  }
  return functional::linear(input, weight, bias, is_training());
}

void LinearImpl::copy_from(const LinearImpl& other, TensorCopies& copies) {
  copy_layer(other, *this, parameters_, copies);
  const auto method = other.method_ ? other.method_->clone(*this, copies) : nullptr;
  method_ = method ? method : other.method_;
}

std::shared_ptr<torch::nn::Module> LinearImpl::clone(const std::optional<torch::Device>& device) const {
  auto copy = std::make_shared<LinearImpl>(*this);
  TensorCopies copies(device);
  copy->copy_from(*this, copies);
  return copy;
}

}  // namespace transformers
