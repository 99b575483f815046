#include <ATen/ATen.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>
#include <transformers/utils/optim/parameter_groups.h>
#include <transformers/utils/optim/step_in_backward.h>

#include <functional>
#include <utility>

namespace transformers {
namespace {

namespace autograd = torch::autograd;

class Hook : public autograd::PostAccumulateGradHook {
 public:
  explicit Hook(std::function<void(const at::Tensor&)> action) : action_(std::move(action)) {}
  void operator()(const autograd::Variable& parameter) override { action_(parameter); }

 private:
  std::function<void(const at::Tensor&)> action_;
};

}  // namespace

StepInBackward::StepInBackward(Optimizer& optimizer) {
  for (const auto& parameter : all_parameters(optimizer)) {
    if (parameter.requires_grad()) {
      parameters_.push_back(parameter);
    }
  }
  for (const auto& parameter : parameters_) {
    TORCH_CHECK(!autograd::impl::post_acc_grad_hooks(parameter), "a parameter of shape ", parameter.sizes(),
                " has a hook after its gradient already");
  }
  for (const auto& parameter : parameters_) {
    autograd::impl::set_post_acc_grad_hooks(
        parameter, std::make_unique<Hook>([this, &optimizer](const at::Tensor& stepped) {
          const at::NoGradGuard no_grad;
          norms_.push_back(at::linalg_vector_norm(stepped.grad(), 2).to(at::kFloat));
          optimizer.step_parameter(stepped);
          stepped.mutable_grad().reset();
        }));
  }
}

StepInBackward::~StepInBackward() {
  for (const auto& parameter : parameters_) {
    autograd::impl::set_post_acc_grad_hooks(parameter, nullptr);
  }
}

at::Tensor StepInBackward::take_grad_norm() {
  const at::NoGradGuard no_grad;
  const auto norms = std::exchange(norms_, {});
  return norms.empty() ? at::zeros({}) : at::linalg_vector_norm(at::stack(norms), 2);
}

}  // namespace transformers
