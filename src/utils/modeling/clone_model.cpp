#include <ATen/ATen.h>
#include <transformers/utils/modeling/base_model.h>
#include <transformers/utils/modeling/clone_model.h>
#include <transformers/utils/nn/layer_norm.h>
#include <transformers/utils/nn/state_dict.h>

#include <algorithm>

#include "utils/nn/internal/parameter_hook.h"

namespace transformers {
namespace {

/// Copies norms, activations and other modules: their tensors remain the members, and only get new values.
void copy_others(const torch::nn::Module& module, torch::nn::Module& copy, TensorCopies& copies) {
  const auto copy_each = [&](const auto& tensors, auto targets) {
    for (const auto& entry : tensors) {
      if (auto* target = targets.find(entry.key())) {
        const auto value = copies.of(entry.value());
        assign_tensor(*target, value);
        target->requires_grad_(entry.value().requires_grad());
        share_parameter_hook(value, *target);
        copies.set(entry.value(), *target);
      } else {
        copy.register_buffer(entry.key(), copies.of(entry.value()));
      }
    }
  };
  copy_each(module.named_parameters(/*recurse=*/false), copy.named_parameters(/*recurse=*/false));
  copy_each(module.named_buffers(/*recurse=*/false), copy.named_buffers(/*recurse=*/false));
  if (const auto* hooks = dynamic_cast<const ForwardHooks*>(&module)) {
    dynamic_cast<ForwardHooks&>(copy) = *hooks;
  }
}

bool spans_devices(const torch::nn::Module& model) {
  const auto all = model.modules();
  return std::any_of(all.begin(), all.end(), [](const auto& module) {
    const auto* base = dynamic_cast<const BaseModel*>(module.get());
    return base != nullptr && !base->block_devices().empty();
  });
}

void copy_module(const torch::nn::Module& module, torch::nn::Module& copy, TensorCopies& copies) {
  if (const auto* linear = module.as<LinearImpl>()) {
    copy.as<LinearImpl>()->copy_from(*linear, copies);
  } else if (const auto* embedding = module.as<EmbeddingImpl>()) {
    copy.as<EmbeddingImpl>()->copy_from(*embedding, copies);
  } else if (const auto* norm = module.as<LayerNormImpl>()) {
    copy.as<LayerNormImpl>()->copy_from(*norm, copies);
  } else {
    copy_others(module, copy, copies);
  }
  if (auto* part = dynamic_cast<PreTrainedModel*>(&copy)) {
    part->copy_settings(dynamic_cast<const PreTrainedModel&>(module));
  }
  copy.train(module.is_training());
}

}  // namespace

void copy_parameters(const torch::nn::Module& model, torch::nn::Module& copy,
                     const std::optional<torch::Device>& device) {
  const auto* whole = dynamic_cast<const PreTrainedModel*>(&model);
  TORCH_CHECK(whole == nullptr || whole->hf_device_map().empty(),
              "clone: a model that lies in several places by its device map cannot be copied");
  TORCH_CHECK(whole == nullptr || !device || !spans_devices(model),
              "clone: a model that is spread over several devices can be copied as it lies, not to one of them");
  const at::NoGradGuard no_grad;
  TensorCopies copies(device);
  const auto modules = model.named_modules();
  const auto counterparts = copy.named_modules();
  for (const auto& entry : modules) {
    const auto* counterpart = counterparts.find(entry.key());
    TORCH_CHECK(counterpart != nullptr, "clone: the config builds no module ", entry.key());
    copy_module(*entry.value(), **counterpart, copies);
  }
  if (device) {
    copy.to(*device);
  }
}

}  // namespace transformers
