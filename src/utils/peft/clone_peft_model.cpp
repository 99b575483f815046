#include <ATen/ATen.h>
#include <transformers/utils/peft/peft_model.h>

#include <algorithm>

#include "utils/peft/peft_state.h"

namespace transformers {
namespace {

using Modules = torch::OrderedDict<std::string, std::shared_ptr<torch::nn::Module>>;

std::string name_of(const Modules& modules, const torch::nn::Module* module) {
  const auto found =
      std::find_if(modules.begin(), modules.end(), [&](const auto& entry) { return entry.value().get() == module; });
  TORCH_INTERNAL_ASSERT(found != modules.end());
  return found->key();
}

std::shared_ptr<LinearImpl> linear_named(const Modules& modules, const std::string& name) {
  return std::dynamic_pointer_cast<LinearImpl>(modules[name]);
}

/// The tensor of the copied model that corresponds to a tensor of the model; for a tensor that the model does not hold,
/// a copy of it.
at::Tensor counterpart(const at::Tensor& tensor, const torch::nn::Module& model, const torch::nn::Module& copy,
                       TensorCopies& copies) {
  for (const auto& entry : model.named_parameters()) {
    if (entry.value().is_same(tensor)) {
      return copy.named_parameters()[entry.key()];
    }
  }
  return copies.of(tensor);
}

/// Parents come before their children, so that the modes of the children prevail.
void copy_modes(const torch::nn::Module& module, torch::nn::Module& copy) {
  const auto counterparts = copy.named_modules();
  for (const auto& entry : module.named_modules()) {
    counterparts[entry.key()]->train(entry.value()->is_training());
  }
}

}  // namespace

const std::shared_ptr<torch::nn::Module>& PeftModelImpl::base_model() const { return state_->model; }

void PeftModelImpl::copy_adapters(const State& from, TensorCopies& copies) {
  auto& to = *state_;
  const auto modules = to.model->named_modules();
  std::map<const LoraWeightsImpl*, LoraWeights> made;
  for (const auto& adapter : from.adapters) {
    Adapter copy{adapter.name, adapter.config, {}};
    const auto home = to.adapters_module->register_module(adapter.name, std::make_shared<Module>());
    for (const auto& [target, weights] : adapter.parts.layers) {
      const LoraWeights own(std::dynamic_pointer_cast<LoraWeightsImpl>(weights->clone(copies.device())));
      made.emplace(weights.get(), own);
      home->register_module(module_name(target.name), own.ptr());
      copy.parts.layers.emplace_back(target, own);
      copy.parts.layers.back().first.linear = linear_named(modules, target.name);
    }
    for (const auto& [parameter, data] : adapter.parts.saved) {
      copy.parts.saved.emplace(parameter, copies.of(data));
    }
    to.adapters.push_back(std::move(copy));
  }
  for (const auto& [name, layer] : from.layers) {
    const auto linear = linear_named(modules, name);
    const auto copy_of = [&](const LoraWeights& weights) { return made.at(weights.get()); };
    const auto method = layer.method->with_copies(linear->method(), copy_of, copies);
    linear->set_method(method);
    to.layers[name] = {linear, method};
  }
}

std::shared_ptr<torch::nn::Module> PeftModelImpl::clone(const std::optional<torch::Device>& device) const {
  const auto& from = *state_;
  const auto model = from.model->clone(device);
  const auto modules = model->named_modules();
  for (const auto& [name, layer] : from.layers) {
    const auto linear = linear_named(modules, name);
    // These adapters are copies that nobody manages; the adapters of the copy replace them below.
    linear->set_method(dynamic_cast<const LoraLinear&>(*linear->method()).base());
  }
  auto copy = std::make_shared<PeftModelImpl>(model);
  TensorCopies copies(device);
  copy->copy_adapters(from, copies);
  auto& to = *copy->state_;
  to.active = from.active;
  to.enabled = from.enabled;
  const auto parameters = model->named_parameters();
  for (const auto& [name, slot] : from.exchanged) {
    to.exchanged.emplace(name, State::Exchanged{parameters[name], copies.of(slot.base), slot.holder});
  }
  const auto own_modules = from.model->named_modules();
  for (const auto& [linear, shared] : from.untied) {
    to.untied.emplace_back(linear_named(modules, name_of(own_modules, linear.get())),
                           counterpart(shared, *from.model, *model, copies));
  }
  static_cast<ForwardHooks&>(*copy) = *this;
  copy_modes(*this, *copy);
  return copy;
}

}  // namespace transformers
