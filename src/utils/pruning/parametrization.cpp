// Masks on parameters, the counterpart of torch.nn.utils.parametrize. The mask and the hidden values are the state of a
// gradient hook on the parameter, which zeroes the gradient of hidden entries and is copied when the parameter is
// cloned.
#include <ATen/core/grad_mode.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros_like.h>
#include <c10/util/Exception.h>
#include <torch/csrc/autograd/variable.h>
#include <transformers/utils/pruning/parametrization.h>

#include "utils/nn/internal/parameter_hook.h"

namespace transformers {

/// The hook of a masked parameter. A copy of the parameter gets a hook of its own; if the mask is a buffer, the copy's
/// mask is the copy of that buffer.
struct MaskState : ParameterHook {
  MaskState(at::Tensor mask, at::Tensor hidden) : mask(std::move(mask)), hidden(std::move(hidden)) {}

  at::Tensor mask;
  at::Tensor hidden;  // undefined as long as nothing was hidden

  at::Tensor hides(c10::Device device) const { return mask.to(device).eq(0); }

  at::TensorBase changed(const at::TensorBase& gradient) const override {
    const at::Tensor whole(gradient);
    return whole.masked_fill(hides(whole.device()), 0);
  }

  std::shared_ptr<ParameterHook> copied(TensorCopies& copies) const override {
    return std::make_shared<MaskState>(copies.of(mask), copies.of(hidden));
  }
};

namespace {

std::shared_ptr<MaskState> mask_on(const at::Tensor& parameter) {
  return std::dynamic_pointer_cast<MaskState>(parameter_hook(parameter));
}

bool fits(at::IntArrayRef mask, at::IntArrayRef parameter) {
  if (mask.size() != parameter.size()) {
    return false;
  }
  for (size_t i = 0; i < mask.size(); ++i) {
    if (mask[i] != 1 && mask[i] != parameter[i]) {
      return false;
    }
  }
  return true;
}

void check_binary(const at::Tensor& mask) {
  TORCH_CHECK(mask.eq(0).logical_or(mask.eq(1)).all().item<bool>(), "a mask must hold 0 and 1 only");
}

void check_parameter(const at::Tensor& parameter) {
  TORCH_CHECK(parameter.defined() && parameter.is_leaf() && parameter.is_floating_point(),
              "only a floating leaf tensor, such as a module's parameter, can be masked");
  TORCH_CHECK(!ParameterMask::on(parameter), "the parameter has a mask already; set its values instead");
}

void check_mask(const at::Tensor& mask, const at::Tensor& parameter) {
  TORCH_CHECK(mask.defined() && fits(mask.sizes(), parameter.sizes()),
              "a mask must have the parameter's dimensions, each of its size or 1: the parameter has shape ",
              parameter.sizes(), ", the mask ", mask.defined() ? mask.sizes() : at::IntArrayRef());
  TORCH_CHECK(mask.device() == parameter.device(), "a mask must lie on its parameter's device, ", parameter.device(),
              ", got one on ", mask.device());
  check_binary(mask);
}

/// Replaces a parameter's memory. A graph of an earlier forward may still hold the node that accumulates its gradient
/// and that knows the old shape.
void set_data(at::Tensor parameter, const at::Tensor& value) {
  parameter.mutable_grad().reset();
  parameter.set_data(value);
  if (torch::autograd::impl::get_autograd_meta(parameter) != nullptr) {
    torch::autograd::impl::set_grad_accumulator(parameter, {});
  }
}

/// Copies the selected part, so that the memory of the rest can be freed.
at::Tensor selected(const TensorSelection& select, const at::Tensor& whole) {
  const auto part = select(whole).contiguous();
  return part.is_alias_of(whole) ? part.clone() : part;
}

}  // namespace

ParameterMask::ParameterMask(at::Tensor parameter, std::shared_ptr<MaskState> state)
    : parameter_(std::move(parameter)), state_(std::move(state)) {}

ParameterMask::ParameterMask(at::Tensor parameter, at::Tensor mask) : parameter_(std::move(parameter)) {
  check_parameter(parameter_);
  check_mask(mask, parameter_);
  state_ = std::make_shared<MaskState>(std::move(mask), at::Tensor());
  set_hidden(parameter_.detach());
  add_parameter_hook(parameter_, state_);
  apply();
}

std::optional<ParameterMask> ParameterMask::on(const at::Tensor& parameter) {
  const auto state = mask_on(parameter);
  return state != nullptr ? std::make_optional(ParameterMask(parameter, state)) : std::nullopt;
}

const at::Tensor& ParameterMask::mask() const { return state_->mask; }

void ParameterMask::set(const at::Tensor& mask) {
  TORCH_CHECK(mask.defined() && mask.sizes() == state_->mask.sizes(), "a mask keeps its shape: it has ",
              state_->mask.sizes(), ", got ", mask.defined() ? mask.sizes() : at::IntArrayRef());
  check_binary(mask);
  const at::NoGradGuard no_grad;
  const auto whole = original();
  state_->mask.copy_(mask);
  set_hidden(whole);
  parameter_.copy_(whole);
  apply();
}

void ParameterMask::apply() {
  const at::NoGradGuard no_grad;
  const auto hides = state_->hides(parameter_.device());
  parameter_.masked_fill_(hides, 0);
  if (parameter_.grad().defined()) {
    parameter_.mutable_grad().masked_fill_(hides, 0);
  }
}

at::Tensor ParameterMask::hidden() const {
  return state_->hidden.defined() ? state_->hidden.to(parameter_.options()) : at::zeros_like(parameter_.detach());
}

void ParameterMask::set_hidden(const at::Tensor& values) {
  TORCH_CHECK(values.sizes() == parameter_.sizes(), "hidden values must have the parameter's shape ",
              parameter_.sizes(), ", got ", values.sizes());
  const auto hides = state_->hides(parameter_.device());
  // A mask that hides nothing, the state of every layer before its first pruning step, costs no memory.
  state_->hidden = hides.any().item<bool>()
                       ? values.detach().to(parameter_.options()).masked_fill(hides.logical_not(), 0)
                       : at::Tensor();
}

at::Tensor ParameterMask::original() const {
  const auto values = parameter_.detach();
  return state_->hidden.defined() ? at::where(state_->hides(values.device()), hidden(), values) : values.clone();
}

void ParameterMask::remove() {
  apply();
  remove_parameter_hook(parameter_);
}

void ParameterMask::lift() {
  const at::NoGradGuard no_grad;
  parameter_.copy_(original());
  remove_parameter_hook(parameter_);
}

void narrow_parameter(const at::Tensor& parameter, const TensorSelection& select) {
  const at::NoGradGuard no_grad;
  if (const auto found = mask_on(parameter)) {
    auto& state = *found;
    auto mask = select(state.mask.expand_as(parameter));
    for (int64_t dim = 0; dim < mask.dim(); ++dim) {
      mask = state.mask.size(dim) == 1 ? mask.narrow(dim, 0, 1) : mask;
    }
    state.mask.set_data(mask.clone(at::MemoryFormat::Contiguous));
    state.hidden = state.hidden.defined() ? selected(select, state.hidden) : at::Tensor();
  }
  set_data(parameter, selected(select, parameter.detach()));
}

}  // namespace transformers
