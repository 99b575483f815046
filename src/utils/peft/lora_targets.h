#pragma once

#include <transformers/utils/nn/linear.h>
#include <transformers/utils/peft/lora_config.h>

#include <memory>
#include <string>
#include <vector>

namespace transformers {

/// A layer that gets an adapter.
struct LoraTarget {
  std::string name;
  std::shared_ptr<LinearImpl> linear;
  int64_t rank = 0;
  double alpha = 0;
};

/// The modules of a model that a config selects.
struct AdapterPlan {
  std::vector<LoraTarget> targets{};
  /// Parameters of the modules to save.
  std::vector<std::string> saved_parameters{};
};

/// The config with the defaults that depend on the model filled in: target modules and the head of its task.
LoraConfig resolved(LoraConfig config, const torch::nn::Module& model);

/// Throws, changing nothing, when a resolved config selects no module, or one that is not a Linear.
AdapterPlan plan_adapter(torch::nn::Module& model, const LoraConfig& config);

}  // namespace transformers
