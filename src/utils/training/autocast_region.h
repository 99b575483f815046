#pragma once

#include <torch/nn/module.h>
#include <transformers/utils/nn/autocast.h>
#include <transformers/utils/training/training_task.h>

#include <optional>

namespace transformers {

/// Enables autocast on the model's device for its lifetime, unless the mode is kNone.
class AutocastRegion {
 public:
  AutocastRegion(const torch::nn::Module& model, Autocast autocast) {
    if (autocast != Autocast::kNone) {
      const auto dtype = autocast == Autocast::kFloat16 ? at::kHalf : at::kBFloat16;
      guard_.emplace(model.parameters().front().device().type(), dtype);
    }
  }

 private:
  std::optional<AutocastGuard> guard_;
};

}  // namespace transformers
