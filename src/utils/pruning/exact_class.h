#pragma once

#include <torch/nn/module.h>

#include <typeinfo>

namespace transformers {

/// Exactly one of these classes: one that derives from them may have a forward of its own.
template <typename... Classes>
bool is_exactly(const torch::nn::Module* module) {
  return module != nullptr && ((typeid(*module) == typeid(Classes)) || ...);
}

}  // namespace transformers
