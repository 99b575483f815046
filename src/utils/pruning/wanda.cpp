#include <ATen/core/grad_mode.h>
#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>
#include <transformers/utils/pruning/wanda.h>

namespace transformers {

void InputNorm::add(const at::Tensor& input) {
  TORCH_CHECK(input.defined() && input.dim() > 0 && input.is_floating_point(),
              "calibration inputs must be floating tensors [..., features]");
  const at::NoGradGuard no_grad;
  const auto features = input.size(-1);
  TORCH_CHECK(!squares_.defined() || squares_.size(0) == features, "calibration inputs must have ",
              squares_.defined() ? squares_.size(0) : features, " features as those before, got ", features);
  const auto squares = input.detach().reshape({-1, features}).to(at::kFloat).square().sum(0).to(at::kDouble);
  squares_ = squares_.defined() ? squares_.add_(squares) : squares;
}

at::Tensor InputNorm::value() const {
  TORCH_CHECK(squares_.defined(), "no calibration inputs were seen");
  return squares_.sqrt().to(at::kFloat);
}

InputNormObserver::InputNormObserver(std::shared_ptr<LinearImpl> linear)
    : linear_(std::move(linear)), norm_(std::make_shared<InputNorm>()) {
  TORCH_CHECK(linear_ != nullptr, "InputNormObserver needs a layer");
  hook_ = linear_->register_forward_pre_hook(
      [norm = norm_](const at::Tensor& input) {
        norm->add(input);
        return at::Tensor();
      },
      ForwardHooks::Owner::kObserver);
}

InputNormObserver::~InputNormObserver() { linear_->remove_forward_hook(hook_); }

at::Tensor wanda_scores(const at::Tensor& weight, const at::Tensor& input_norm) {
  TORCH_CHECK(weight.defined() && weight.dim() == 2, "Wanda scores a weight [out_features, in_features]");
  TORCH_CHECK(input_norm.defined() && input_norm.sizes() == at::IntArrayRef({weight.size(1)}),
              "the norms of a layer's inputs must have shape [", weight.size(1), "], got ",
              input_norm.defined() ? input_norm.sizes() : at::IntArrayRef());
  return weight.detach().to(at::kFloat).abs() * input_norm.to(weight.device(), at::kFloat);
}

namespace prune {

void wanda(torch::nn::Module& module, const std::string& name, const at::Tensor& input_norm, Amount amount) {
  const auto parameters = module.named_parameters(/*recurse=*/false);
  const auto* weight = parameters.find(name);
  TORCH_CHECK(weight != nullptr, module.name(), " has no parameter '", name, "' of its own");
  apply(module, name, RowwiseUnstructured(amount), wanda_scores(*weight, input_norm));
}

}  // namespace prune
}  // namespace transformers
