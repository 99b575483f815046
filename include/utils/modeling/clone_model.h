#pragma once

#include <transformers/export.h>
#include <transformers/utils/modeling/pretrained_model.h>
#include <transformers/utils/nn/construction.h>

#include <memory>
#include <optional>

namespace TRANSFORMERS_API transformers {

/// Gives `copy`, a model of the same structure, copies of the parameters of `model`, whatever their shapes, with their
/// ties, requires_grad and masks, and copies buffers, training mode, hooks and linear methods. The copies are on
/// `device`, where one is given.
void copy_parameters(const torch::nn::Module& model, torch::nn::Module& copy,
                     const std::optional<torch::Device>& device);

/// Returns an independent copy of the model, as `copy.deepcopy` does; this implements `clone()` of the models. Adapters
/// in its layers are copied with it; `PeftModel::clone` also copies the object that manages them. Hooks are the same
/// functions. Throws on a model that a device map has spread over several places.
template <typename Impl>
std::shared_ptr<torch::nn::Module> clone_model(const Impl& model, const std::optional<torch::Device>& device) {
  std::shared_ptr<Impl> copy;
  {
    const ConstructionGuard guard({.device = c10::kMeta, .initialize = false});
    copy = std::make_shared<Impl>(static_cast<const typename Impl::Config&>(model.config()));
  }
  copy_parameters(model, *copy, device);
  if constexpr (requires { copy->generation_config; }) {
    copy->generation_config = model.generation_config;
  }
  return copy;
}

/// Base class that gives a model class its `clone()`: `class LlamaModelImpl : public CloneableModel<LlamaModelImpl,
/// BaseModel>`.
template <typename Derived, typename Base>
class CloneableModel : public Base {  // NOLINT(bugprone-crtp-constructor-accessibility): see Cloneable
 public:
  std::shared_ptr<torch::nn::Module> clone(const std::optional<torch::Device>& device = std::nullopt) const override {
    return clone_model(static_cast<const Derived&>(*this), device);
  }

 protected:
  using Base::Base;
};

}  // namespace transformers
