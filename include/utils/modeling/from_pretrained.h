#pragma once

#include <transformers/export.h>
#include <transformers/utils/files/model_folder.h>
#include <transformers/utils/modeling/load_weights.h>
#include <transformers/utils/nn/construction.h>

#include <string>
#include <utility>

namespace TRANSFORMERS_API transformers {

/// The model that `build` makes from a config on the meta device, for these weights. transformers 5.x ignores
/// `pruned_heads`, so a folder may have the key although no head is missing from its weights; the key is then dropped
/// with a warning.
template <typename Config, typename Build>
auto build_for(Config& config, const Checkpoint& checkpoint, const std::string& folder, const Build& build) {
  const ConstructionGuard guard({.device = c10::kMeta, .initialize = false});
  auto model = build(config);
  if (config.pruned_heads.empty() || match_weights(*model, checkpoint).mismatched.empty()) {
    return model;
  }
  auto pruned_heads = std::exchange(config.pruned_heads, {});
  auto whole = build(config);
  if (!match_weights(*whole, checkpoint).mismatched.empty()) {
    config.pruned_heads = std::move(pruned_heads);
    return model;
  }
  TORCH_WARN(config_path(folder), ": pruned_heads is ignored, no head is missing from the weights");
  return whole;
}

/// Loads a folder. `Model` is a holder such as LlamaForCausalLM. Config, generation config and weights come from the
/// same save, also when the folder is saved into meanwhile.
template <typename Model>
Model load_pretrained(const ModelFolder& folder, const LoadOptions& options) {
  Model model{nullptr};
  folder.read_one_save([&] {
    auto config = Model::Impl::Config::from_pretrained(folder);
    config.attn_implementation = options.attn_implementation;
    if (options.num_labels) {
      config.set_num_labels(*options.num_labels);
    }
    const auto checkpoint = open_checkpoint(folder, config, options);
    model = build_for(config, *checkpoint, folder.path(), [](const auto& fitting) { return Model(fitting); });
    auto report = load_weights(*model, checkpoint, folder, options);
    if (options.report != nullptr) {
      *options.report = std::move(report);
    }
  });
  return model;
}

}  // namespace transformers

/// Defines the holder of a model class: TRANSFORMERS_MODULE and the static from_pretrained(folder, options).
#define TRANSFORMERS_MODEL(Name)                                                   \
  class Name : public ::transformers::ModuleHolder<Name##Impl> {                   \
   public:                                                                         \
    using ::transformers::ModuleHolder<Name##Impl>::ModuleHolder;                  \
    using Impl = Name##Impl;                                                       \
    static Name from_pretrained(const ::transformers::ModelFolder& folder,         \
                                const ::transformers::LoadOptions& options = {}) { \
      return ::transformers::load_pretrained<Name>(folder, options);               \
    }                                                                              \
  }
