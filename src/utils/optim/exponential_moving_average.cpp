#include <ATen/ATen.h>
#include <transformers/utils/optim/exponential_moving_average.h>

#include "utils/optim/internal/numbers.h"
#include "utils/optim/named_parameters.h"

namespace transformers {
namespace {

constexpr const char* kCount = "n_averaged";
constexpr const char* kAverage = "average.";

at::Tensor fp32_if_lower(const at::Tensor& parameter) {
  const auto type = parameter.scalar_type();
  return type == at::kBFloat16 || type == at::kHalf ? parameter.to(at::kFloat) : parameter;
}

}  // namespace

ExponentialMovingAverage::ExponentialMovingAverage(const torch::nn::Module& model, double decay) : decay_(decay) {
  TORCH_CHECK(decay >= 0 && decay <= 1, "the decay of an average must lie in [0, 1], got ", decay);
  for (auto& [name, parameter] : named_trainable_parameters(model)) {
    names_.push_back(name);
    parameters_.push_back(parameter);
    averages_.push_back(fp32_if_lower(parameter.detach()).clone());
  }
  TORCH_CHECK(!parameters_.empty(), "an average needs a model with trainable parameters");
}

void ExponentialMovingAverage::update() {
  const at::NoGradGuard no_grad;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const auto now = fp32_if_lower(parameters_[i]);
    if (n_averaged_ == 0) {
      averages_[i].copy_(now);
    } else {
      averages_[i].lerp_(now, 1 - decay_);
    }
  }
  ++n_averaged_;
}

StateDict ExponentialMovingAverage::state_dict() const {
  StateDict state;
  state.insert(kCount, to_tensor({static_cast<double>(n_averaged_)}));
  for (size_t i = 0; i < names_.size(); ++i) {
    state.insert(kAverage + names_[i], averages_[i]);
  }
  return state;
}

void ExponentialMovingAverage::load_state_dict(const StateDict& state) {
  const auto count = whole_number_of(state, kCount);
  TORCH_CHECK(state.size() == names_.size() + 1, "the state of an average must have ", names_.size(),
              " averages, found ", state.size() == 0 ? 0 : state.size() - 1);
  for (size_t i = 0; i < names_.size(); ++i) {
    const auto* found = state.find(kAverage + names_[i]);
    TORCH_CHECK(found != nullptr, "the state of an average lacks \"", names_[i], "\"");
    TORCH_CHECK(found->sizes() == averages_[i].sizes(), "the average of \"", names_[i], "\" must have the shape ",
                averages_[i].sizes(), ", found ", found->sizes());
  }
  for (size_t i = 0; i < names_.size(); ++i) {
    averages_[i].copy_(state[kAverage + names_[i]]);
  }
  n_averaged_ = count;
}

AveragedWeights::AveragedWeights(const ExponentialMovingAverage& average) : parameters_(average.parameters_) {
  const at::NoGradGuard no_grad;
  if (average.n_averaged_ == 0) {
    parameters_.clear();
  }
  for (size_t i = 0; i < parameters_.size(); ++i) {
    own_.push_back(parameters_[i].detach().clone());
    parameters_[i].copy_(average.averages_[i]);
  }
}

AveragedWeights::~AveragedWeights() {
  const at::NoGradGuard no_grad;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    parameters_[i].copy_(own_[i]);
  }
}

}  // namespace transformers
