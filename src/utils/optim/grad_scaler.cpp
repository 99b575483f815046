#include <ATen/ATen.h>
#include <transformers/utils/optim/grad_scaler.h>

#include <map>

#include "utils/optim/internal/numbers.h"

namespace transformers {

GradScaler::GradScaler(GradScalerOptions options) : options_(options) {
  TORCH_CHECK(options.growth_factor > 1, "GradScaler: growth_factor must be above 1, got ", options.growth_factor);
  TORCH_CHECK(options.backoff_factor < 1, "GradScaler: backoff_factor must be below 1, got ", options.backoff_factor);
  TORCH_CHECK(options.init_scale > 0 && options.growth_interval > 0,
              "GradScaler: init_scale and growth_interval must be positive, got ", options.init_scale, " and ",
              options.growth_interval);
  scale_ = at::full({}, options.init_scale, at::kFloat);
  growth_tracker_ = at::zeros({}, at::kInt);
}

at::Tensor GradScaler::scale(const at::Tensor& loss) {
  scale_ = scale_.to(loss.device());
  growth_tracker_ = growth_tracker_.to(loss.device());
  return loss * scale_;
}

void GradScaler::unscale_(torch::optim::Optimizer& optimizer) {
  TORCH_CHECK(!found_inf_.contains(&optimizer), "GradScaler: gradients were unscaled already since the last update()");
  const at::NoGradGuard no_grad;
  auto found_inf = at::zeros({}, scale_.options());
  const auto inverse = scale_.to(at::kDouble).reciprocal().to(at::kFloat);
  std::map<std::pair<c10::DeviceType, c10::ScalarType>, std::vector<at::Tensor>> by_kind;
  for (auto& group : optimizer.param_groups()) {
    for (auto& parameter : group.params()) {
      if (const auto& grad = parameter.grad(); grad.defined()) {
        by_kind[{grad.device().type(), grad.scalar_type()}].push_back(grad);
      }
    }
  }
  for (auto& [kind, grads] : by_kind) {
    at::_amp_foreach_non_finite_check_and_unscale_(grads, found_inf, inverse);
  }
  found_inf_[&optimizer] = found_inf;
}

bool GradScaler::step(torch::optim::Optimizer& optimizer) {
  if (!found_inf_.contains(&optimizer)) {
    unscale_(optimizer);
  }
  const bool finite = found_inf_.at(&optimizer).item<float>() == 0;
  if (finite) {
    optimizer.step();
  }
  return finite;
}

void GradScaler::update() {
  TORCH_CHECK(!found_inf_.empty(), "GradScaler: update() comes after step()");
  auto any = at::zeros({}, scale_.options());
  for (const auto& [optimizer, found] : found_inf_) {
    any += found;
  }
  at::_amp_update_scale_(scale_, growth_tracker_, any, options_.growth_factor, options_.backoff_factor,
                         options_.growth_interval);
  found_inf_.clear();
}

double GradScaler::get_scale() const { return scale_.item<double>(); }

StateDict GradScaler::state_dict() const {
  StateDict state;
  state.insert("scale", to_tensor({get_scale()}));
  state.insert("growth_tracker", to_tensor({static_cast<double>(growth_tracker_.item<int>())}));
  return state;
}

void GradScaler::load_state_dict(const StateDict& state) {
  const auto scale = positive_numbers_of(state, "scale", 1).front();
  const auto tracker = whole_number_of(state, "growth_tracker");
  scale_.fill_(scale);
  growth_tracker_.fill_(tracker);
}

}  // namespace transformers
