#pragma once

#include <transformers/utils/nn/linear.h>
#include <transformers/utils/peft/lora_config.h>

#include <memory>
#include <string>
#include <vector>

namespace transformers {

/// A layer that an adapter goes beside.
struct LoraTarget {
  std::string name;
  std::shared_ptr<LinearImpl> linear;
  int64_t rank = 0;
  double alpha = 0;
};

/// What a config means for a model.
struct AdapterPlan {
  std::vector<LoraTarget> targets{};
  /// Parameters of the modules to save.
  std::vector<std::string> saved_parameters{};
};

/// The config with what it leaves to the model: its default target modules, the head of its task.
LoraConfig resolved(LoraConfig config, const torch::nn::Module& model);

/// Throws, changing nothing, when a resolved config names no module, or one that is no Linear.
AdapterPlan plan_adapter(torch::nn::Module& model, const LoraConfig& config);

}  // namespace transformers
